use super::prefix::{First, Goal};
use super::{RowContext, ScoreProcessor, Scratch};

/// `top_p`: leaves the fewest most likely tokens whose probabilities reach `p`.
#[derive(Debug)]
pub struct TopP {
    pub p: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for TopP {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, histogram, support, .. } = scratch;
        let goal = Goal { weight: self.p * support.weights(scores, values), count: self.min_tokens_to_keep };
        let Some(last) = histogram.last(First::Largest, values, values, support.of(scores), goal) else { return };
        let mut weights = values.iter();
        support.retain(scores, |token, _| {
            weights.next().is_some_and(|weight| First::Largest.holds((*weight, token), last))
        });
    }
}
