use super::support::kth_largest;
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
        let Scratch { values, keyed, heap, support, .. } = scratch;
        support.gather(scores, values);
        let Some(least) = kth_largest(values, Self::CONSIDERED, heap) else { return };
        // The considered ones, best first, then the others.
        keyed.clear();
        keyed.extend(values.iter().copied().zip(support.of(scores).iter().copied()));
        let considered = to_front(keyed, least);
        considered.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let most = considered.len().min(Self::CONSIDERED);
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

/// Brings the items of at least `least` to the front, and gives them.
fn to_front(items: &mut [(f32, u32)], least: f32) -> &mut [(f32, u32)] {
    let mut front = 0;
    for place in 0..items.len() {
        if items.get(place).is_some_and(|(score, _)| *score >= least) {
            items.swap(front, place);
            front += 1;
        }
    }
    items.split_at_mut(front).0
}
