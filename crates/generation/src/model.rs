//! What a session needs of a model.

use crate::error::{GenerationError, UNSUPPORTED_OPTION};

/// Tokens to append to one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInput<'a> {
    /// A hypothesis' place in the caches: `row * slots_per_row + index`. All slots of a row share its encoder states.
    pub slot: usize,
    /// At least one token id.
    pub tokens: &'a [u32],
}

/// How tokens may be chosen from logits where no processor needs them: the largest, the lowest id among equals, or with
/// `uniforms` a draw from what temperature, top-k and top-p, in this order, leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenRule {
    pub do_sample: bool,
    pub temperature: f32,
    /// 0: all.
    pub top_k: usize,
    /// 1: all.
    pub top_p: f64,
}

/// A decoder with a key/value cache per slot.
///
/// A slot begins empty. A session feeds a slot, [`reorder`](Self::reorder)s slots of one row among themselves and
/// [`release`](Self::release)s a slot when nothing will be fed to it any more.
pub trait StepModel {
    /// The width of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Feeds tokens to slots: appends to each slot's cache and leaves the logits after the LAST token of each input in
    /// `logits`, row-major `[inputs.len(), vocab_size]`, in the order of `inputs` (what it held before is discarded).
    fn step(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError>;

    /// Whether [`step_and_choose`](Self::step_and_choose) is worth its arguments.
    fn chooses(&self) -> bool {
        false
    }

    /// Like [`step`](Self::step), and chooses a token per input where the logits lie, so that they need not be moved.
    /// `uniforms`, one per input from 0 up to 1, are there to draw by, exactly where the rule samples. `None`: the logits
    /// are in `logits`, for the caller to choose, or to say why nothing can be.
    fn step_and_choose(
        &mut self,
        inputs: &[StepInput<'_>],
        rule: &TokenRule,
        uniforms: Option<&[f64]>,
        logits: &mut Vec<f32>,
    ) -> Result<Option<Vec<u32>>, GenerationError> {
        let _ = (rule, uniforms);
        self.step(inputs, logits)?;
        Ok(None)
    }

    /// After this, slot `moves[i].0` continues what slot `moves[i].1` held before the call (parallel assignment;
    /// sources may repeat, destinations do not, and both are slots of the same row).
    fn reorder(&mut self, moves: &[(usize, usize)]) -> Result<(), GenerationError>;

    /// Nothing will be fed to the slot any more: its cache may go. Called once for every slot of a row that ends, those
    /// that were never fed included.
    fn release(&mut self, slot: usize);

    /// Empties a slot's cache, for `use_cache: false`. Refused unless the model implements it.
    fn reset(&mut self, slot: usize) -> Result<(), GenerationError> {
        let _ = slot;
        Err(GenerationError::option(
            UNSUPPORTED_OPTION,
            "use_cache",
            "use_cache: false is not available with this model; leave it out or set it to true",
        ))
    }

    /// Like [`step`](Self::step), and leaves the decoder's last hidden states of EVERY token fed in `hidden`, row-major
    /// `[total tokens, d_model]`, for contrastive search. Refused unless the model implements it.
    fn step_with_hidden(
        &mut self,
        inputs: &[StepInput<'_>],
        logits: &mut Vec<f32>,
        hidden: &mut Vec<f32>,
    ) -> Result<(), GenerationError> {
        let _ = (inputs, logits, hidden);
        Err(GenerationError::option(
            UNSUPPORTED_OPTION,
            "penalty_alpha",
            "penalty_alpha (contrastive search) is not available with this model; leave it out",
        ))
    }
}
