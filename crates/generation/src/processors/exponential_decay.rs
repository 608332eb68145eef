use super::{RowContext, ScoreProcessor, Scratch};

/// `exponential_decay_length_penalty`: after `start` new tokens, the end tokens' scores grow by
/// `|score| * (factor^n - 1)`, n steps later.
#[derive(Debug)]
pub struct ExponentialDecay {
    start: usize,
    factor: f64,
    /// Each once.
    ends: Vec<u32>,
}

impl ExponentialDecay {
    pub fn new(start: usize, factor: f64, eos_token_id: &[u32]) -> Self {
        let mut ends = eos_token_id.to_vec();
        ends.sort_unstable();
        ends.dedup();
        Self { start, factor, ends }
    }
}

impl ScoreProcessor for ExponentialDecay {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        let begin = self.start.saturating_add(row.prompt_length);
        let Some(steps) = row.ids.len().checked_sub(begin).filter(|steps| *steps > 0) else { return };
        let growth = (libm::pow(self.factor, steps as f64) - 1.0).min(f64::from(f32::MAX)) as f32;
        for token in &self.ends {
            let Some(score) = scores.get_mut(*token as usize) else { continue };
            // A forbidden token stays forbidden: minus infinity plus infinity would be NaN.
            if *score != f32::NEG_INFINITY {
                *score = (*score + score.abs() * growth).min(f32::MAX);
            }
        }
    }
}
