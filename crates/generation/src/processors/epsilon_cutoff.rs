use super::{RowContext, ScoreProcessor, Scratch};

/// `epsilon_cutoff`: leaves the tokens whose probability is at least `epsilon`.
#[derive(Debug)]
pub struct EpsilonCutoff {
    pub epsilon: f64,
    pub min_tokens_to_keep: usize,
}

impl ScoreProcessor for EpsilonCutoff {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        let total = scratch.support.weights(scores, &mut scratch.weights);
        scratch.cut(scores, self.epsilon * total, self.min_tokens_to_keep);
    }
}
