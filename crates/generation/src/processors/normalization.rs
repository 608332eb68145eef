use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `renormalize_logits`: log-probabilities of what the other processors left.
#[derive(Debug)]
pub struct Normalization;

impl ScoreProcessor for Normalization {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        math::log_softmax_in_place(scores);
    }
}
