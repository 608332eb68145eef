//! Writing and restoring what training holds beside the weights: the optimiser's state, adapters; and weights themselves.
//!
//! Layout of the optimiser's file, per parameter `NAME`: `NAME.step` (I64, one value) and, of AdamW, `NAME.exp_avg` and
//! `NAME.exp_avg_sq`; of Adafactor `NAME.rms` (F32, one value), `NAME.exp_avg_sq_row` and `NAME.exp_avg_sq_col` or
//! `NAME.exp_avg_sq`, and `NAME.exp_avg` with beta1. The number of updates is the metadata's `updates`. Adapters have PEFT's
//! names and shapes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use switch_checkpoint::{Checkpoint, CheckpointError, Dtype, Fault, SavePlan, SaveTensor, TensorInfo};
use switch_kernels::training::AdafactorState;

use super::optimizer::ParameterState;
use super::options::OptimizerOptions;
use super::parameters::{Kind, Slot};
use super::Training;
use crate::error::{code, ModelError, Result};
use crate::weight::try_zeros;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Optimizer,
    Adapters,
}

/// A training's state about to be written. It is read while it is written, so an update in between is an error.
pub struct StateSource {
    training: Arc<Mutex<Training>>,
    part: Part,
    updates: u64,
    pub plan: SavePlan,
}

impl StateSource {
    /// One file with everything of a part.
    pub fn new(training: &Arc<Mutex<Training>>, part: Part, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let guard = training.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metadata = metadata.clone();
        let mut tensors = Vec::new();
        match part {
            Part::Optimizer => {
                metadata.insert("updates".into(), guard.updates.to_string());
                for (name, state) in &guard.state {
                    let shape =
                        guard.slots.iter().find(|s| &s.name == name).map(|s| s.shape.clone()).unwrap_or_default();
                    for (suffix, values) in state.tensors() {
                        let (dtype, shape) = match values {
                            Values::Step(_) => (Dtype::I64, vec![1]),
                            Values::Scalar(_) => (Dtype::F32, vec![1]),
                            Values::All(_) => (Dtype::F32, shape.clone()),
                            Values::Vector(v) => (Dtype::F32, vec![v.len()]),
                        };
                        tensors.push(SaveTensor { name: format!("{name}.{suffix}"), dtype, shape });
                    }
                }
            }
            Part::Adapters => {
                if guard.options.lora.is_none() {
                    let message = "adapters: this training has none; start it with lora";
                    return Err(ModelError::new(code::INVALID_OPTION, message));
                }
                let slots = guard.slots.iter().filter(|slot| slot.kind != Kind::All);
                tensors.extend(slots.map(|slot| SaveTensor {
                    name: slot.name.clone(),
                    dtype: Dtype::F32,
                    shape: slot.shape.clone(),
                }));
            }
        }
        let plan = SavePlan::new(&tensors, u64::MAX, &metadata)?;
        let updates = guard.updates;
        drop(guard);
        Ok(Self { training: Arc::clone(training), part, updates, plan })
    }

    /// Fills `into` with the bytes of file `file` from `offset`.
    pub fn read(&self, file: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let guard = self.training.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.updates != self.updates {
            return Err(ModelError::input(
                "the training went on while it was being saved; plan again after the update",
            ));
        }
        let result = self.plan.read(file, offset, into, &mut |name, start, into| {
            guard.tensor_bytes(self.part, name, start, into).map_err(|error| {
                CheckpointError::InvalidInput(Box::new(Fault {
                    tensor: Some(name.to_string()),
                    found: error.message,
                    ..Fault::default()
                }))
            })
        });
        Ok(result?)
    }
}

/// A tensor of a parameter's state.
enum Values<'a> {
    Step(u64),
    Scalar(f32),
    /// As many as the parameter has.
    All(&'a [f32]),
    Vector(&'a [f32]),
}

impl ParameterState {
    fn tensors(&self) -> Vec<(&'static str, Values<'_>)> {
        match self {
            Self::AdamW { step, first, second } => vec![
                ("step", Values::Step(*step)),
                ("exp_avg", Values::All(first)),
                ("exp_avg_sq", Values::All(second)),
            ],
            Self::Adafactor(state) => {
                let mut list = vec![("step", Values::Step(state.step)), ("rms", Values::Scalar(state.rms))];
                match state.full.is_empty() {
                    true => {
                        list.push(("exp_avg_sq_row", Values::Vector(&state.row)));
                        list.push(("exp_avg_sq_col", Values::Vector(&state.col)));
                    }
                    false => list.push(("exp_avg_sq", Values::All(&state.full))),
                }
                if !state.m.is_empty() {
                    list.push(("exp_avg", Values::All(&state.m)));
                }
                list
            }
        }
    }
}

fn copy_bytes(values: &[f32], start: u64, into: &mut [u8]) -> Result<()> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    copy_part(bytes, start, into)
}

fn copy_part(bytes: &[u8], start: u64, into: &mut [u8]) -> Result<()> {
    let part = usize::try_from(start)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(into.len())?))
        .ok_or_else(|| ModelError::internal("a read past the end of a state"))?;
    into.copy_from_slice(part);
    Ok(())
}

impl Training {
    fn tensor_bytes(&self, part: Part, name: &str, start: u64, into: &mut [u8]) -> Result<()> {
        if part == Part::Adapters {
            let slot =
                self.slots.iter().find(|s| s.name == name).ok_or_else(|| ModelError::internal("no such adapter"))?;
            return slot.with_values(|values| copy_bytes(values, start, into))?;
        }
        let found = name.rsplit_once('.').and_then(|(parameter, suffix)| {
            let list = self.state.get(parameter)?.tensors();
            list.into_iter().find(|(name, _)| *name == suffix)
        });
        match found {
            Some((_, Values::Step(step))) => copy_part(&step.to_le_bytes(), start, into),
            Some((_, Values::Scalar(value))) => copy_bytes(&[value], start, into),
            Some((_, Values::All(values) | Values::Vector(values))) => copy_bytes(values, start, into),
            None => Err(ModelError::internal("no such state")),
        }
    }

    /// Takes over the values of all trained parameters, under their names in a model's checkpoint.
    pub fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if self.options.lora.is_some() {
            let message = "weights: this training learns adapters; restore those";
            return Err(ModelError::new(code::INVALID_OPTION, message));
        }
        self.restore_slots(checkpoint)
    }

    /// Takes over adapters' matrices.
    pub fn restore_adapters(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if self.options.lora.is_none() {
            let message = "adapters: this training has none; start it with lora";
            return Err(ModelError::new(code::INVALID_OPTION, message));
        }
        self.restore_slots(checkpoint)
    }

    fn restore_slots(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        // Everything is read and checked before anything changes.
        let mut all = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            all.push(read(checkpoint, &slot.name, &slot.shape)?);
        }
        for (slot, values) in self.slots.iter().zip(&all) {
            // SAFETY: the engine runs one operation at a time, and this one holds the training.
            unsafe { slot.update(|to, _| to.copy_from_slice(values))? };
        }
        for slot in &self.slots {
            // SAFETY: likewise.
            unsafe { slot.refresh()? };
        }
        self.clear_gradients();
        Ok(())
    }

    /// Takes over an optimiser's state.
    pub fn restore_optimizer(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let updates = checkpoint.metadata().get("updates").and_then(|text| text.parse().ok());
        let updates = updates.ok_or_else(|| mismatch("the metadata has no number of updates".into()))?;
        let mut restored = BTreeMap::new();
        let mut used = 0;
        for slot in &self.slots {
            if checkpoint.get(&format!("{}.step", slot.name)).is_some() {
                let state = self.read_state(checkpoint, slot)?;
                used += state.tensors().len();
                restored.insert(slot.name.clone(), state);
            }
        }
        let found = checkpoint.tensors().len();
        if used != found {
            let message = format!(
                "{found} tensors of an optimiser's state, {used} of which belong to parameters that are trained here: it \
                 is of another model, optimiser or choice of parameters"
            );
            return Err(mismatch(message));
        }
        self.state = restored;
        self.updates = updates;
        self.clear_gradients();
        Ok(())
    }

    fn read_state(&self, checkpoint: &Checkpoint, slot: &Slot) -> Result<ParameterState> {
        let name = &slot.name;
        let step = match info(checkpoint, &format!("{name}.step"), &[1])? {
            info if info.dtype == Dtype::I64 => checkpoint.read_i64(info)?.first().copied(),
            _ => None,
        };
        let step = step.and_then(|step| u64::try_from(step).ok());
        let step = step.ok_or_else(|| mismatch(format!("{name}.step is not a whole number of 0 or more")))?;
        let values = |suffix: &str, shape: &[usize]| read(checkpoint, &format!("{name}.{suffix}"), shape);
        match &self.options.optimizer {
            OptimizerOptions::AdamW(_) => Ok(ParameterState::AdamW {
                step,
                first: values("exp_avg", &slot.shape)?,
                second: values("exp_avg_sq", &slot.shape)?,
            }),
            OptimizerOptions::Adafactor(o) => {
                let mut state = AdafactorState { step, ..AdafactorState::default() };
                state.rms = values("rms", &[1])?.first().copied().unwrap_or(0.0);
                match slot.shape.as_slice() {
                    &[rows, cols] => {
                        state.row = values("exp_avg_sq_row", &[rows])?;
                        state.col = values("exp_avg_sq_col", &[cols])?;
                    }
                    _ => state.full = values("exp_avg_sq", &slot.shape)?,
                }
                if o.beta1.is_some() {
                    state.m = values("exp_avg", &slot.shape)?;
                }
                Ok(ParameterState::Adafactor(state))
            }
        }
    }
}

fn mismatch(message: String) -> ModelError {
    ModelError::new(code::CHECKPOINT_MISMATCH, format!("the checkpoint does not fit this training: found {message}"))
}

fn info<'a>(checkpoint: &'a Checkpoint, name: &str, shape: &[usize]) -> Result<&'a TensorInfo> {
    let info = checkpoint.get(name).ok_or_else(|| mismatch(format!("no tensor {name}")))?;
    match info.shape == shape {
        true => Ok(info),
        false => Err(mismatch(format!("{name} of shape {:?}, expected {shape:?}", info.shape))),
    }
}

fn read(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let info = info(checkpoint, name, shape)?;
    let mut values = try_zeros(shape.iter().product())?;
    checkpoint.read_f32(info, &mut values)?;
    match switch_kernels::training::all_finite(&values) {
        true => Ok(values),
        false => Err(mismatch(format!("{name} with values that are not finite"))),
    }
}
