use super::{RowContext, ScoreProcessor, Scratch};

/// `eta_cutoff`: leaves the tokens whose probability is at least `min(epsilon, sqrt(epsilon) * e^-entropy)`.
#[derive(Debug)]
pub struct EtaCutoff {
    pub epsilon: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for EtaCutoff {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let (total, entropy) = scratch.log_probabilities(scores);
        let eta = self.epsilon.min(self.epsilon.sqrt() * libm::exp(-entropy));
        scratch.cut(scores, eta * total, self.min_tokens_to_keep);
    }
}
