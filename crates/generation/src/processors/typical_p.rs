use super::prefix::{First, Goal};
use super::{RowContext, ScoreProcessor, Scratch};

/// `typical_p`: leaves the tokens whose information is nearest to the expected, until their probabilities reach `mass`.
#[derive(Debug)]
pub struct TypicalP {
    pub mass: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for TypicalP {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let (total, entropy) = scratch.log_probabilities(scores);
        let Scratch { values, weights, histogram, support, .. } = scratch;
        values.iter_mut().for_each(|log_probability| *log_probability = (-*log_probability - entropy as f32).abs());
        let goal = Goal { weight: self.mass * total, count: self.min_tokens_to_keep };
        let tokens = support.of(scores);
        let Some((limit, last)) = histogram.last(First::Smallest, values, weights, tokens, goal) else { return };
        // Those as typical as the last stay too, unless it is only there to make up the number.
        let mass_alone = Goal { count: 1, ..goal };
        let reached = match self.min_tokens_to_keep {
            0 | 1 => Some((limit, last)),
            _ => histogram.last(First::Smallest, values, weights, tokens, mass_alone),
        };
        let limit_of_mass = reached.map_or(f32::INFINITY, |(limit, _)| limit);
        let mut distances = values.iter();
        support.retain(scores, |token, _| {
            let distance = distances.next().copied().unwrap_or(f32::INFINITY);
            distance <= limit_of_mass || First::Smallest.holds((distance, token), (limit, last))
        });
    }
}
