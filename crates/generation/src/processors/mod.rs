//! What changes a row of scores before a token is chosen: processors (always) and warpers (only when sampling), one
//! file each, in the reference's order (`transformers` 5.18.0, `GenerationMixin._get_logits_processor`).
//!
//! Every one works in place on one row and touches only what it changes. Nothing is allocated once the scratch buffers
//! have grown to the vocabulary's size.

mod bad_words;
mod begin_suppress_tokens;
mod encoder_no_repeat_ngram;
mod encoder_repetition_penalty;
mod epsilon_cutoff;
mod eta_cutoff;
mod exponential_decay;
mod forced_bos;
mod forced_eos;
mod hamming_diversity;
mod min_length;
mod min_p;
mod no_repeat_ngram;
mod normalization;
mod pipeline;
mod prefix;
mod remove_invalid;
mod repetition_penalty;
mod sequence_bias;
mod support;
mod suppress_tokens;
mod temperature;
mod top_h;
mod top_k;
mod top_p;
mod typical_p;

#[cfg(test)]
mod tests;

pub use pipeline::ScorePipeline;
pub(crate) use support::Scratch;

/// What a processor may know of the row whose scores it changes.
#[derive(Debug, Clone, Copy)]
pub struct RowContext<'a> {
    /// The decoder's ids so far, prefix included.
    pub ids: &'a [u32],
    /// How many of them are the prefix.
    pub prompt_length: usize,
    /// The most ids the row may have.
    pub max_length: usize,
    /// The row's ids as the encoder got them, padding included.
    pub encoder_ids: &'a [u32],
    /// The length at which `begin_suppress_tokens` acts.
    pub begin_index: usize,
    /// What the earlier groups of diverse beam search have chosen for this row in this step.
    pub previous_group_tokens: &'a [u32],
}

/// Changes one row of scores in place.
pub trait ScoreProcessor: std::fmt::Debug + Send + Sync {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch);
}

/// Sets the scores of `tokens` to minus infinity.
fn forbid(scores: &mut [f32], tokens: &[u32]) {
    for token in tokens {
        if let Some(score) = scores.get_mut(*token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Leaves only `tokens` possible, each with score 0.
fn force(scores: &mut [f32], tokens: &[u32]) {
    scores.fill(f32::NEG_INFINITY);
    for token in tokens {
        if let Some(score) = scores.get_mut(*token as usize) {
            *score = 0.0;
        }
    }
}
