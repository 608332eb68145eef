use super::{RowContext, ScoreProcessor, Scratch};

/// `temperature`: divides every score.
#[derive(Debug)]
pub struct Temperature(pub f32);

impl ScoreProcessor for Temperature {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        for score in scores {
            *score /= self.0;
        }
    }
}
