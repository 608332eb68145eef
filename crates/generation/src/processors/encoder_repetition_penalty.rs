use super::repetition_penalty::penalize;
use super::{RowContext, ScoreProcessor, Scratch};

/// `encoder_repetition_penalty`: makes the encoder's tokens more likely (above 1) or less likely (below 1).
#[derive(Debug)]
pub struct EncoderRepetitionPenalty {
    inverse: f32,
}

impl EncoderRepetitionPenalty {
    pub fn new(penalty: f64) -> Self {
        Self { inverse: (1.0 / penalty) as f32 }
    }
}

impl ScoreProcessor for EncoderRepetitionPenalty {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        penalize(scores, row.encoder_ids, self.inverse, &mut scratch.values);
    }
}
