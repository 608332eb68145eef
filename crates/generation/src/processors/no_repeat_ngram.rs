use super::{RowContext, ScoreProcessor, Scratch};

/// `no_repeat_ngram_size`: forbids tokens that would complete an n-gram the row already holds.
#[derive(Debug)]
pub struct NoRepeatNgram(pub usize);

impl ScoreProcessor for NoRepeatNgram {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        forbid_completions(scores, row.ids, row.ids, self.0);
    }
}

/// Forbids every token that follows, anywhere in `text`, the last `size - 1` tokens of `ids`.
pub(super) fn forbid_completions(scores: &mut [f32], ids: &[u32], text: &[u32], size: usize) {
    let Some(start) = (ids.len() + 1).checked_sub(size) else { return };
    let Some(suffix) = ids.get(start..) else { return };
    for window in text.windows(size) {
        if let Some((last, prefix)) = window.split_last() {
            if prefix == suffix {
                super::forbid(scores, &[*last]);
            }
        }
    }
}
