use super::{force, RowContext, ScoreProcessor, Scratch};

/// `forced_eos_token_id`: the only possible last tokens of a row of the greatest length.
#[derive(Debug)]
pub struct ForcedEos(pub Vec<u32>);

impl ScoreProcessor for ForcedEos {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        if row.ids.len() + 1 == row.max_length {
            force(scores, &self.0);
        }
    }
}
