use super::{force, RowContext, ScoreProcessor, Scratch};

/// `forced_bos_token_id`: the only possible second token of a row.
#[derive(Debug)]
pub struct ForcedBos(pub u32);

impl ScoreProcessor for ForcedBos {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        if row.ids.len() == 1 {
            force(scores, &[self.0]);
        }
    }
}
