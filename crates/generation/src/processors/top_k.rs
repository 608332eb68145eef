use super::support::kth_largest;
use super::{RowContext, ScoreProcessor, Scratch};

/// `top_k`: leaves the `k` most likely tokens, and those as likely as the last of them.
#[derive(Debug)]
pub struct TopK {
    pub k: usize,
}

impl ScoreProcessor for TopK {
    fn apply(&self, _: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        if self.k >= scores.len() {
            return;
        }
        if let Some(least) = kth_largest(scores, self.k, &mut scratch.heap) {
            scratch.support.retain_at_least(scores, least);
        }
    }
}
