use super::{RowContext, ScoreProcessor, Scratch};
use crate::math;

/// `eta_cutoff`: leaves the tokens whose probability is at least `min(epsilon, sqrt(epsilon) * e^-entropy)`.
#[derive(Debug)]
pub struct EtaCutoff {
    pub epsilon: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for EtaCutoff {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let Scratch { values, support, .. } = scratch;
        support.gather(scores, values);
        let top = math::max(values);
        let log_sum = math::log_sum_exp(values, top);
        let entropy = -values.iter().fold(0.0_f64, |sum, score| {
            let log_p = f64::from(*score - top) - log_sum;
            sum + f64::from(math::exp(log_p as f32)) * log_p
        });
        let eta = self.epsilon.min(self.epsilon.sqrt() * libm::exp(-entropy));
        let total = scratch.support.weights(scores, &mut scratch.values);
        scratch.cut(scores, eta * total, self.min_tokens_to_keep);
    }
}
