use super::prefix::take_sorted;
use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `min_p`: leaves the tokens at least `p` times as likely as the most likely one.
#[derive(Debug)]
pub struct MinP {
    pub p: f32,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for MinP {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, keyed, support, .. } = scratch;
        support.weights(scores, values);
        let least = self.p * math::max(values);
        keyed.clear();
        keyed.extend(values.iter().copied().zip(support.of(scores).iter().copied()));
        let mut kept = 0_usize;
        // Of equals the lower id goes first.
        let count = take_sorted(
            keyed,
            |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)),
            |(weight, _)| {
                kept += 1;
                *weight >= least || kept <= self.min_tokens_to_keep
            },
        );
        scratch.keep_sorted(count, scores);
    }
}
