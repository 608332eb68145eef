use super::prefix::take_sorted;
use super::{RowContext, ScoreProcessor, Scratch};

/// `top_p`: leaves the fewest most likely tokens whose probabilities reach `p`.
#[derive(Debug)]
pub struct TopP {
    pub p: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for TopP {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, keyed, support, .. } = scratch;
        let total = support.weights(scores, values);
        keyed.clear();
        keyed.extend(values.iter().copied().zip(support.of(scores).iter().copied()));
        let mut before = 0.0_f64;
        let mut kept = 0_usize;
        // A token stays if the more likely ones before it do not yet reach p. Of equals the reference, which sorts
        // upwards, keeps those with the higher id.
        let count = take_sorted(
            keyed,
            |a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)),
            |(weight, _)| {
                let keep = before < self.p * total || kept < self.min_tokens_to_keep;
                before += f64::from(*weight);
                kept += 1;
                keep
            },
        );
        scratch.keep_sorted(count, scores);
    }
}
