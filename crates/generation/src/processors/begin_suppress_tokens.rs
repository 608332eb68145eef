use super::{forbid, RowContext, ScoreProcessor, Scratch};

/// `begin_suppress_tokens`: tokens that are not chosen first (second, after a forced one).
#[derive(Debug)]
pub struct BeginSuppressTokens(pub Vec<u32>);

impl ScoreProcessor for BeginSuppressTokens {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        if row.ids.len() == row.begin_index {
            forbid(scores, &self.0);
        }
    }
}
