//! What a beam is, and how the best become a result.

use super::shared::Shared;
use crate::result::GenerationResult;

/// A sequence with its score and the beams it came from.
#[derive(Debug, Clone)]
pub struct Hypothesis {
    pub ids: Vec<u32>,
    /// `batch row * num_beams + beam`, one for each new token.
    pub beam_indices: Vec<i32>,
    /// The sum of log-probabilities; once finished, over the length penalty.
    pub score: f32,
}

impl Hypothesis {
    /// The hypothesis continued with `token` from the beam `beam_index`.
    pub fn continued(&self, token: u32, beam_index: usize, score: f32) -> Self {
        let mut beam_indices = Vec::with_capacity(self.beam_indices.len() + 1);
        beam_indices.extend_from_slice(&self.beam_indices);
        beam_indices.push(i32::try_from(beam_index).unwrap_or(i32::MAX));
        let mut ids = Vec::with_capacity(self.ids.len() + 1);
        ids.extend_from_slice(&self.ids);
        ids.push(token);
        Self { ids, beam_indices, score }
    }
}

/// A result of the hypotheses to return, made equally long with `fill`.
pub fn collect(kept: Vec<Hypothesis>, fill: u32, shared: Shared, steps: usize) -> GenerationResult {
    let longest = kept.iter().map(|hypothesis| hypothesis.ids.len()).max().unwrap_or(0);
    let most_indices = kept.iter().map(|hypothesis| hypothesis.beam_indices.len()).max().unwrap_or(0);
    let mut result = GenerationResult {
        sequences_scores: Some(kept.iter().map(|hypothesis| hypothesis.score).collect()),
        lengths: kept.iter().map(|hypothesis| hypothesis.ids.len()).collect(),
        scores: shared.records.scores,
        logits: shared.records.logits,
        steps,
        ..GenerationResult::default()
    };
    let mut beam_indices = Vec::with_capacity(kept.len());
    for Hypothesis { mut ids, beam_indices: mut indices, .. } in kept {
        ids.resize(longest, fill);
        indices.resize(most_indices, -1);
        result.sequences.push(ids);
        beam_indices.push(indices);
    }
    result.beam_indices = Some(beam_indices);
    result
}
