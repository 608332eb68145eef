//! The scores and logits of each step, when asked for.

use crate::error::{GenerationError, OUT_OF_MEMORY};
use crate::options::GenerationOptions;

/// Which of the two a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Scores,
    Logits,
}

/// Per step, `[slots, vocabulary]` row-major; zero where nothing was written.
#[derive(Debug)]
pub struct Records {
    pub scores: Option<Vec<Vec<f32>>>,
    pub logits: Option<Vec<Vec<f32>>>,
}

impl Records {
    pub fn new(options: &GenerationOptions) -> Self {
        // As in the reference, they are part of the dictionary only.
        let wanted = |flag: bool| (flag && options.return_dict_in_generate).then(Vec::new);
        Self { scores: wanted(options.output_scores), logits: wanted(options.output_logits) }
    }

    /// Whether neither is wanted.
    pub fn is_empty(&self) -> bool {
        self.scores.is_none() && self.logits.is_none()
    }

    /// Begins a step of `slots` rows.
    pub fn begin(&mut self, slots: usize, vocab_size: usize) -> Result<(), GenerationError> {
        for record in [&mut self.scores, &mut self.logits].into_iter().flatten() {
            let mut step = Vec::new();
            let size = slots.saturating_mul(vocab_size);
            step.try_reserve_exact(size).map_err(|_| {
                GenerationError::new(OUT_OF_MEMORY, "no memory left for output_scores or output_logits; leave them out")
            })?;
            step.resize(size, 0.0);
            record.push(step);
        }
        Ok(())
    }

    /// Writes the row of a slot for the step begun last.
    pub fn write(&mut self, kind: Kind, slot: usize, row: &[f32]) {
        let record = match kind {
            Kind::Scores => &mut self.scores,
            Kind::Logits => &mut self.logits,
        };
        let step = record.as_mut().and_then(|steps| steps.last_mut());
        let start = slot.saturating_mul(row.len());
        if let Some(place) = step.and_then(|step| step.get_mut(start..start.saturating_add(row.len()))) {
            place.copy_from_slice(row);
        }
    }
}
