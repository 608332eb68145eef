//! What a beam is, and how the best become a result.

use super::super::shared::Shared;
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
    pub fn continued(&self, token: u32, beam_index: i32, score: f32) -> Self {
        let with = |mut list: Vec<_>| {
            list.push(token);
            list
        };
        let mut beam_indices = Vec::with_capacity(self.beam_indices.len() + 1);
        beam_indices.extend_from_slice(&self.beam_indices);
        beam_indices.push(beam_index);
        let mut ids = Vec::with_capacity(self.ids.len() + 1);
        ids.extend_from_slice(&self.ids);
        Self { ids: with(ids), beam_indices, score }
    }
}

/// A result of the hypotheses to return, filled up with what the reference fills beams with.
pub fn collect(kept: Vec<Hypothesis>, shared: Shared, steps: usize) -> GenerationResult {
    // The reference takes the padding token for unset when its id is 0.
    let padding = shared.options.padding();
    let ends = &shared.options.eos_token_id;
    let fill = if padding == 0 { ends.first().copied().unwrap_or(0) } else { padding };
    let longest = kept.iter().map(|hypothesis| hypothesis.ids.len()).max().unwrap_or(0);
    let steps_kept = kept.iter().map(|hypothesis| hypothesis.beam_indices.len()).max().unwrap_or(0);
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
        indices.resize(steps_kept, -1);
        result.sequences.push(ids);
        beam_indices.push(indices);
    }
    result.beam_indices = Some(beam_indices);
    result
}
