use super::{RowContext, ScoreProcessor, Scratch};

/// `repetition_penalty`: makes the row's own tokens less likely (above 1) or more likely (below 1).
#[derive(Debug)]
pub struct RepetitionPenalty(pub f32);

impl ScoreProcessor for RepetitionPenalty {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], scratch: &mut Scratch) {
        penalize(scores, row.ids, self.0, &mut scratch.values);
    }
}

/// Divides positive and multiplies negative scores of `tokens` by `penalty`, once each however often they occur.
pub(super) fn penalize(scores: &mut [f32], tokens: &[u32], penalty: f32, values: &mut Vec<f32>) {
    // All are read before any is written, so that a repeated token is not penalised twice.
    values.clear();
    values.extend(tokens.iter().map(|token| match scores.get(*token as usize) {
        Some(score) if *score < 0.0 => score * penalty,
        Some(score) => score / penalty,
        None => 0.0,
    }));
    for (token, value) in tokens.iter().zip(values.iter()) {
        if let Some(score) = scores.get_mut(*token as usize) {
            *score = *value;
        }
    }
}
