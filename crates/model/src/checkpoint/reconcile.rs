//! What published checkpoints hold against what their configs say: the oddities of the hub, in one place.

use switch_checkpoint::{Checkpoint, TensorInfo};

use crate::config::SwitchTransformersConfig;
use crate::error::Result;

/// The head under the name that switch-c-2048 stores it.
pub(super) const DECODER_HEAD: &str = "decoder.lm_head.weight";
pub(super) const HEAD: &str = "lm_head.weight";
pub(super) const SHARED: &str = "shared.weight";

/// Values compared to tell a tied head that is stored twice from an untied one, at each end and in the middle.
const SAMPLE: u64 = 4096;

/// Corrects a config by the tensors beside it, as far as they are clear:
/// - a stack with more blocks stored than the config counts is as deep as the stored ones (switch-c-2048);
/// - a layer is sparse where a router is stored, and dense where a dense feed-forward is;
/// - with no `tie_word_embeddings` in the config, a stored head that differs from the embeddings is its own.
pub fn reconcile(mut config: SwitchTransformersConfig, checkpoint: &Checkpoint) -> Result<SwitchTransformersConfig> {
    if let Some(sparse) = stored_layers(checkpoint, "encoder", 1, &config.sparse_encoder_layers) {
        config.num_layers = sparse.len();
        config.encoder_sparse_step = step_of(&sparse).unwrap_or(config.encoder_sparse_step);
        config.sparse_encoder_layers = sparse;
    }
    if let Some(sparse) = stored_layers(checkpoint, "decoder", 2, &config.sparse_decoder_layers) {
        config.num_decoder_layers = sparse.len();
        config.decoder_sparse_step = step_of(&sparse).unwrap_or(config.decoder_sparse_step);
        config.sparse_decoder_layers = sparse;
    }
    if !config.tie_word_embeddings_given {
        config.tie_word_embeddings = !has_own_head(checkpoint)?;
    }
    Ok(config)
}

/// Which stored blocks of a stack are sparse, or `None` where the stored ones do not contradict the config: blocks that
/// are merely missing are the loader's to report.
fn stored_layers(checkpoint: &Checkpoint, stack: &str, feed_forward: usize, expected: &[bool]) -> Option<Vec<bool>> {
    let mlp = |i: usize, name: &str| {
        checkpoint.get(&format!("{stack}.block.{i}.layer.{feed_forward}.mlp.{name}.weight")).is_some()
    };
    let mut found = Vec::new();
    loop {
        let i = found.len();
        let sparse = mlp(i, "router.classifier");
        if !sparse && !mlp(i, "wi") && !mlp(i, "wi_0") {
            break;
        }
        found.push(sparse);
    }
    if found.len() < expected.len() {
        found.extend_from_slice(&expected[found.len()..]);
    }
    (found != expected).then_some(found)
}

/// The sparse step that gives these layers, if one does.
fn step_of(sparse: &[bool]) -> Option<usize> {
    (0..=sparse.len()).find(|step| SwitchTransformersConfig::sparse_layers(sparse.len(), *step) == sparse)
}

/// Whether the checkpoint holds a head that is not the embeddings.
fn has_own_head(checkpoint: &Checkpoint) -> Result<bool> {
    if checkpoint.get(DECODER_HEAD).is_some() {
        return Ok(true);
    }
    let (Some(head), Some(shared)) = (checkpoint.get(HEAD), checkpoint.get(SHARED)) else {
        return Ok(checkpoint.get(HEAD).is_some());
    };
    if head.shape != shared.shape || head.dtype != shared.dtype {
        return Ok(true);
    }
    Ok(!same_values(checkpoint, head, shared)?)
}

fn same_values(checkpoint: &Checkpoint, a: &TensorInfo, b: &TensorInfo) -> Result<bool> {
    let bytes = a.bytes();
    let len = bytes.min(SAMPLE) as usize;
    let (mut left, mut right) = (vec![0u8; len], vec![0u8; len]);
    for start in [0, (bytes - len as u64) / 2, bytes - len as u64] {
        checkpoint.read_bytes(a, start, &mut left)?;
        checkpoint.read_bytes(b, start, &mut right)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(true)
}
