//! Training: gradients through the one definition of the model, losses, and optimisers.
//!
//! A [`Training`] makes the weights of a model trainable and owns what belongs to them: gradients, adapters, the optimiser's
//! state. The model that it hands out shares those weights, so that it generates with what has been learned so far.

mod adapter;
mod checkpointing;
mod mix;
mod optimizer;
mod options;
mod parameters;
mod pass;
mod state;
mod step;
mod trainable;

pub use checkpointing::checkpointed;
pub use mix::mix;
pub use options::TrainingOptions;
pub use pass::{LayerPass, Site, TrainingPass};
pub use state::{Part, StateSource};
pub use step::{LayerLoad, StepReport, TrainingBatch};
pub use trainable::{add_linears, Trainable};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{code, ModelError, Result};
use crate::model::SwitchTransformers;
use crate::ops;
use crate::parameters::Architecture;
use optimizer::ParameterState;
use parameters::Slot;

/// What an update did.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateReport {
    /// False when a gradient was not finite: nothing was changed then.
    pub updated: bool,
    /// Of all gradients together, before clipping.
    pub grad_norm: f64,
    /// The first parameter with a gradient that is not finite.
    pub non_finite: Option<String>,
    /// Updates so far.
    pub updates: u64,
}

/// A model in training.
pub struct Training {
    model: Arc<SwitchTransformers>,
    teacher: Option<Arc<SwitchTransformers>>,
    options: TrainingOptions,
    /// What is learned, in order of name.
    slots: Vec<Slot>,
    state: BTreeMap<String, ParameterState>,
    updates: u64,
}

impl Training {
    /// Copies what is trained of `model` into float32 weights with gradients. `available` is the memory that can be had.
    pub fn new(
        model: &SwitchTransformers,
        teacher: Option<Arc<SwitchTransformers>>,
        options: TrainingOptions,
        available: Option<u64>,
    ) -> Result<Self> {
        if model.architecture() != Architecture::ConditionalGeneration {
            let message = format!(
                "found {}, expected SwitchTransformersForConditionalGeneration: training needs its head",
                model.architecture().name()
            );
            return Err(ModelError::input(message));
        }
        if let Some(teacher) = &teacher {
            let (found, expected) = (teacher.config().vocab_size, model.config().vocab_size);
            if teacher.architecture() != Architecture::ConditionalGeneration || found != expected {
                let message = format!(
                    "teacher: found {} with a vocabulary of {found}, expected SwitchTransformersForConditionalGeneration \
                     with {expected}",
                    teacher.architecture().name()
                );
                return Err(ModelError::new(code::INVALID_OPTION, message));
            }
        }
        if teacher.as_ref().is_some_and(|teacher| !teacher.device().same_device(model.device())) {
            let message = "teacher: found it on another device than the model, expected both on one; load them alike";
            return Err(ModelError::new(code::UNSUPPORTED_OPTION, message));
        }
        if model.experts_on_host() {
            let message = "training needs the experts where the rest is: load the model without expert_device: \"cpu\"";
            return Err(ModelError::new(code::UNSUPPORTED_OPTION, message));
        }
        let (parameters, slots) = parameters::trainable(model, &options, available)?;
        let mut config = model.config().as_ref().clone();
        if parameters.iter().all(|(_, weight)| weight.quantised().is_none()) {
            config.quantization = None;
        }
        let device = model.device().clone();
        let model = SwitchTransformers::build(config, model.architecture(), *model.policy(), parameters)?;
        let model = model.training_on(device, slots.iter().map(|slot| slot.elements() as u64 * 4).sum())?;
        Ok(Self { model: Arc::new(model), teacher, options, slots, state: BTreeMap::new(), updates: 0 })
    }

    /// The model with its weights as they stand.
    pub fn model(&self) -> &Arc<SwitchTransformers> {
        &self.model
    }

    pub fn options(&self) -> &TrainingOptions {
        &self.options
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Names of what is learned: parameters, and adapters' matrices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// How many values are learned.
    pub fn trainable_parameters(&self) -> u64 {
        self.slots.iter().map(|slot| slot.elements() as u64).sum()
    }

    /// Forgets the gradients.
    pub fn clear_gradients(&mut self) {
        for slot in &self.slots {
            slot.clear_gradient();
        }
    }

    /// A gradient as it stands, with its shape; zeros where nothing has been added.
    pub fn gradient(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let slot = self.slots.iter().find(|slot| slot.name == name).ok_or_else(|| {
            ModelError::input(format!("found the name {name:?}, expected that of a parameter that is trained"))
        })?;
        Ok((slot.gradient()?, slot.shape.clone()))
    }

    /// Adds adapters to their weights for good, and starts them again from nothing.
    pub fn merge_adapters(&mut self) -> Result<()> {
        for slot in &self.slots {
            slot.merge_adapter()?;
        }
        self.state.clear();
        Ok(())
    }
}

impl Drop for Training {
    /// The model may live on; what only training needs goes.
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.free_gradient();
        }
        ops::buffers::clear();
    }
}
