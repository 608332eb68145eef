use super::{forbid, RowContext, ScoreProcessor, Scratch};

/// `suppress_tokens`: tokens that are never chosen.
#[derive(Debug)]
pub struct SuppressTokens(pub Vec<u32>);

impl ScoreProcessor for SuppressTokens {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        forbid(scores, &self.0);
    }
}
