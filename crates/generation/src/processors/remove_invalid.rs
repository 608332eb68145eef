use super::{RowContext, ScoreProcessor, Scratch};

/// `remove_invalid_values`: NaN becomes 0, and an infinity the largest finite number of its sign.
#[derive(Debug)]
pub struct RemoveInvalid;

impl ScoreProcessor for RemoveInvalid {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        for score in scores {
            *score = if score.is_nan() { 0.0 } else { score.clamp(f32::MIN, f32::MAX) };
        }
    }
}
