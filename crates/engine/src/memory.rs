//! Refusing work that memory cannot hold, before it is begun: what an operating system promises and does not have ends
//! the process when it is touched.

use switch_model::SwitchTransformersConfig;

use crate::failure::Failure;

/// What a pass is about to compute, in tokens of all rows together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    pub encoder_tokens: usize,
    pub decoder_tokens: usize,
    /// Tokens whose vocabulary logits are computed.
    pub logits_tokens: usize,
    /// Attention probabilities that are recorded, per layer and head.
    pub recorded_attention: u128,
    /// Hidden states that are recorded, in tokens.
    pub recorded_hidden: u128,
}

/// Fails with `OUT_OF_MEMORY` where the pass needs more than the host has.
pub fn check(config: &SwitchTransformersConfig, pass: &Pass) -> Result<(), Failure> {
    let Some(available) = crate::available_memory() else { return Ok(()) };
    let needed = bytes(config, pass);
    if needed <= u128::from(available) {
        return Ok(());
    }
    let message = format!(
        "this call needs about {} MiB and {} MiB are available; use fewer rows, shorter ones or fewer outputs",
        needed >> 20,
        available >> 20
    );
    let details = serde_json::json!({ "needed_bytes": needed as f64, "available_bytes": available });
    Err(Failure::new("OUT_OF_MEMORY", message).with_details(details))
}

/// Fails with `OUT_OF_MEMORY` where the activations of a training step, kept for its way back, need more than there is.
pub fn check_training(
    config: &SwitchTransformersConfig,
    encoder_tokens: usize,
    decoder_tokens: usize,
    checkpointing: bool,
) -> Result<(), Failure> {
    let Some(available) = crate::available_memory() else { return Ok(()) };
    let wide = |n: usize| n as u128;
    let (d, inner, ff) = (wide(config.d_model), wide(config.inner_dim()), wide(config.d_ff));
    // A block keeps its input, norms, projections, and the hidden units of its feed-forward layer.
    let block = if checkpointing { d } else { 8 * d + 5 * inner + ff };
    let cross = if checkpointing { 2 * inner } else { 2 * d + 4 * inner };
    let floats = wide(encoder_tokens) * (block * wide(config.num_layers) + 2 * inner * wide(config.num_decoder_layers))
        + wide(decoder_tokens) * (block + cross) * wide(config.num_decoder_layers);
    let needed = 4 * floats;
    if needed <= u128::from(available) {
        return Ok(());
    }
    let message = format!(
        "this step needs about {} MiB and {} MiB are available; use fewer rows (and gradient accumulation), shorter ones, or \
         gradient_checkpointing",
        needed >> 20,
        available >> 20
    );
    let details = serde_json::json!({ "needed_bytes": needed as f64, "available_bytes": available });
    Err(Failure::new("OUT_OF_MEMORY", message).with_details(details))
}

/// An estimate from below: activations alive at once, the encoder's keys and values for the decoder, logits, records.
fn bytes(config: &SwitchTransformersConfig, pass: &Pass) -> u128 {
    let wide = |n: usize| n as u128;
    let (d, inner, ff) = (wide(config.d_model), wide(config.inner_dim()), wide(config.d_ff));
    let token = 3 * d + (4 * inner).max(d + ff);
    let tokens = wide(pass.encoder_tokens.max(pass.decoder_tokens));
    let cross = match pass.decoder_tokens {
        0 => 0,
        _ => wide(pass.encoder_tokens) * 2 * inner * wide(config.num_decoder_layers),
    };
    // Once in the tensor and once on its way out.
    let logits = 2 * wide(pass.logits_tokens) * wide(config.vocab_size);
    let layers = wide(config.num_layers.max(config.num_decoder_layers));
    let records = 2 * layers * (pass.recorded_attention * wide(config.num_heads) + pass.recorded_hidden * d);
    4 * (tokens * token + cross + logits + records)
}
