//! One update: the global norm, clipping, then each parameter's step (reference: `torch.nn.utils.clip_grad_norm_`,
//! `torch.optim.AdamW`, `transformers.optimization.Adafactor`).

use switch_kernels::training::{adafactor_step, adamw_step, sum_of_squares, Adafactor, AdafactorState, AdamW};

use super::options::OptimizerOptions;
use super::parameters::Slot;
use super::{Training, UpdateReport};
use crate::error::{code, ModelError, Result};
use crate::weight::try_zeros;

/// What an optimiser remembers of one parameter. A parameter without a gradient is left alone and counts no step.
pub enum ParameterState {
    AdamW { step: u64, first: Vec<f32>, second: Vec<f32> },
    Adafactor(AdafactorState),
}

/// `[rows, cols]`, and whether second moments are kept by row and column: of matrices.
fn matrix_of(slot: &Slot) -> (usize, usize, bool) {
    match slot.shape.as_slice() {
        &[rows, cols] => (rows, cols, true),
        _ => (1, slot.elements(), false),
    }
}

impl Training {
    /// Clips the gradients to `max_grad_norm`, takes a step and forgets them. When one is not finite nothing else happens.
    pub fn update(&mut self, learning_rate: f64, max_grad_norm: Option<f64>) -> Result<UpdateReport> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            let message = format!("learning_rate: found {learning_rate}, expected 0 or more");
            return Err(ModelError::new(code::INVALID_OPTION, message));
        }
        if let Some(norm) = max_grad_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            let message = format!("max_grad_norm: found {norm}, expected a number above 0 or null");
            return Err(ModelError::new(code::INVALID_OPTION, message));
        }
        let mut squares = 0f64;
        let mut non_finite = None;
        for slot in &self.slots {
            let sum = slot.with_gradient(|gradient| gradient.map_or(0.0, sum_of_squares))?;
            squares += sum;
            // Squares of float32 do not overflow float64: the sum is finite if and only if every value is.
            if !sum.is_finite() && non_finite.is_none() {
                non_finite = Some(slot.name.clone());
            }
        }
        let grad_norm = squares.sqrt();
        if non_finite.is_some() {
            self.clear_gradients();
            return Ok(UpdateReport { updated: false, grad_norm, non_finite, updates: self.updates });
        }
        let clip = max_grad_norm.map_or(1.0, |max| (max / (grad_norm + 1e-6)).min(1.0));
        // Memory is made sure of before anything changes, so that an update is whole or not at all.
        self.reserve_states()?;
        for slot in &self.slots {
            let Some(state) = self.state.get_mut(&slot.name) else { continue };
            let learning_rate = learning_rate * slot.learning_rate_scale;
            let (rows, cols, factored) = matrix_of(slot);
            // SAFETY: the engine runs one operation at a time, and none but this one while it holds the training.
            unsafe {
                slot.update(|values, gradient| {
                    let Some(gradient) = gradient else { return Ok(()) };
                    match (&self.options.optimizer, state) {
                        (OptimizerOptions::AdamW(o), ParameterState::AdamW { step, first, second }) => {
                            *step += 1;
                            let options = AdamW {
                                learning_rate,
                                beta1: o.beta1,
                                beta2: o.beta2,
                                eps: o.eps,
                                weight_decay: slot.weight_decay.unwrap_or(o.weight_decay),
                                step: *step,
                                gradient_scale: clip as f32,
                            };
                            adamw_step(values, gradient, first, second, &options)
                        }
                        (OptimizerOptions::Adafactor(o), ParameterState::Adafactor(state)) => {
                            let options = Adafactor {
                                learning_rate: (!o.relative_step).then_some(learning_rate),
                                eps1: o.eps[0],
                                eps2: o.eps[1],
                                clip_threshold: o.clip_threshold,
                                decay_rate: o.decay_rate,
                                beta1: o.beta1,
                                weight_decay: slot.weight_decay.unwrap_or(o.weight_decay),
                                scale_parameter: o.scale_parameter,
                                warmup_init: o.warmup_init,
                                gradient_scale: clip as f32,
                            };
                            adafactor_step(values, rows, cols, factored, gradient, state, &options)
                        }
                        // A state is made for the optimiser, and a restored one is checked against it.
                        _ => Ok(()),
                    }
                })??;
                slot.refresh()?;
            }
        }
        self.clear_gradients();
        self.updates += 1;
        Ok(UpdateReport { updated: true, grad_norm, non_finite: None, updates: self.updates })
    }

    /// A state for every parameter that has a gradient.
    fn reserve_states(&mut self) -> Result<()> {
        for slot in &self.slots {
            if self.state.contains_key(&slot.name) || !slot.with_gradient(|gradient| gradient.is_some())? {
                continue;
            }
            let elements = slot.elements();
            let state = match &self.options.optimizer {
                OptimizerOptions::AdamW(_) => {
                    ParameterState::AdamW { step: 0, first: try_zeros(elements)?, second: try_zeros(elements)? }
                }
                OptimizerOptions::Adafactor(o) => {
                    let (rows, cols, factored) = matrix_of(slot);
                    let mut state = AdafactorState::default();
                    state.prepare(rows, cols, factored, o.beta1.is_some())?;
                    ParameterState::Adafactor(state)
                }
            };
            self.state.insert(slot.name.clone(), state);
        }
        Ok(())
    }
}
