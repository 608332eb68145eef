use super::{RowContext, ScoreProcessor, Scratch};

/// `diversity_penalty`: what a token loses for every beam of an earlier group that has chosen it in this step.
#[derive(Debug)]
pub struct HammingDiversity(pub f32);

impl ScoreProcessor for HammingDiversity {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        for (position, token) in row.previous_group_tokens.iter().enumerate() {
            // Once per token, by its whole count: repeated subtraction would round differently.
            if row.previous_group_tokens.iter().take(position).any(|earlier| earlier == token) {
                continue;
            }
            let count = row.previous_group_tokens.iter().filter(|other| *other == token).count();
            if let Some(score) = scores.get_mut(*token as usize) {
                *score -= self.0 * count as f32;
            }
        }
    }
}
