use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `renormalize_logits`: log-probabilities of what the other processors left.
#[derive(Debug)]
pub struct Normalization;

impl ScoreProcessor for Normalization {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, support, .. } = scratch;
        let Some(possible) = support.known_few(scores.len()) else {
            math::log_softmax_in_place(scores);
            return;
        };
        values.clear();
        values.extend(possible.iter().filter_map(|token| scores.get(*token as usize)));
        math::log_softmax_in_place(values);
        for (token, value) in possible.iter().zip(values.iter()) {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = *value;
            }
        }
    }
}
