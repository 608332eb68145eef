use super::no_repeat_ngram::forbid_completions;
use super::{RowContext, ScoreProcessor, Scratch};

/// `encoder_no_repeat_ngram_size`: forbids tokens that would complete an n-gram of the encoder's ids.
#[derive(Debug)]
pub struct EncoderNoRepeatNgram(pub usize);

impl ScoreProcessor for EncoderNoRepeatNgram {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        forbid_completions(scores, row.ids, row.encoder_ids, self.0);
    }
}
