use super::prefix::take_sorted;
use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `top_h`: among the 100 most likely tokens, leaves the most likely while their share of the entropy is at most `h`.
#[derive(Debug)]
pub struct TopH {
    pub h: f64,
}

impl TopH {
    /// As many as the reference looks at.
    const CONSIDERED: usize = 100;
}

impl ScoreProcessor for TopH {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, keyed, support, .. } = scratch;
        support.gather(scores, values);
        keyed.clear();
        keyed.extend(values.iter().copied().zip(support.of(scores).iter().copied()));
        let mut considered = 0;
        let most = take_sorted(
            keyed,
            |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)),
            |_| {
                considered += 1;
                considered <= Self::CONSIDERED
            },
        );
        values.clear();
        values.extend(keyed.iter().take(most).map(|(score, _)| *score));
        let top = math::max(values);
        let log_sum = math::log_sum_exp(values, top);
        let term = |score: &f32| {
            let log_p = f64::from(*score - top) - log_sum;
            -log_p * libm::exp(log_p)
        };
        let limit = values.iter().map(term).sum::<f64>() * self.h;
        let mut cumulative = 0.0;
        let within = values.iter().take_while(|score| {
            cumulative += term(score);
            // All of the entropy is not too much, whatever the rounding.
            cumulative <= limit * (1.0 + 1e-9)
        });
        let count = within.count().max(1);
        scratch.keep_sorted(count, scores);
    }
}
