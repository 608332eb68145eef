use super::support::kth_largest;
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
        let Scratch { values, heap, support, .. } = scratch;
        support.weights(scores, values);
        let least = self.p * math::max(values);
        let Some(kth) = kth_largest(values, self.min_tokens_to_keep, heap) else { return };
        // Of those as likely as the last that has to stay, the lower ids stay.
        let likelier = values.iter().filter(|weight| **weight > kth).count();
        let mut equals = self.min_tokens_to_keep.saturating_sub(likelier);
        let mut weights = values.iter();
        support.retain(scores, |_, _| {
            let weight = weights.next().copied().unwrap_or(0.0);
            if weight >= least || weight > kth {
                return true;
            }
            let stays = weight == kth && equals > 0;
            equals -= usize::from(stays);
            stays
        });
    }
}
