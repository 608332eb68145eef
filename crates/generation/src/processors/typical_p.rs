use super::prefix::take_sorted;
use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `typical_p`: leaves the tokens whose information is nearest to the expected, until their probabilities reach `mass`.
#[derive(Debug)]
pub struct TypicalP {
    pub mass: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for TypicalP {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, keyed, support, .. } = scratch;
        support.gather(scores, values);
        let top = math::max(values);
        let log_sum = math::log_sum_exp(values, top) as f32;
        let log_probability = |score: f32| (score - top) - log_sum;
        let entropy = -values.iter().fold(0.0_f64, |sum, score| {
            let log_p = log_probability(*score);
            sum + f64::from(math::exp(log_p) * log_p)
        }) as f32;
        keyed.clear();
        let shifted = values.iter().map(|score| (-log_probability(*score) - entropy).abs());
        keyed.extend(shifted.zip(support.of(scores).iter().copied()));
        // The token that reaches the mass still stays, and those as typical as it.
        let (mut mass, mut kept, mut limit) = (0.0_f64, 0_usize, f32::INFINITY);
        let count = take_sorted(
            keyed,
            |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)),
            |(distance, token)| {
                if *distance > limit && kept >= self.min_tokens_to_keep {
                    return false;
                }
                kept += 1;
                let score = scores.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
                mass += f64::from(math::exp(log_probability(score)));
                if mass >= self.mass && limit == f32::INFINITY {
                    limit = *distance;
                }
                true
            },
        );
        scratch.keep_sorted(count, scores);
    }
}
