//! Which of a model's parameters are learned, how, and where each one's values and gradient are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};
use switch_kernels::Precision;

use super::adapter::Adapter;
use super::options::{matches, LoraOptions, TrainablePart, TrainingOptions, TrainingPrecision};
use super::trainable::{Gradient, Learned, Trainable};
use crate::error::{code, ModelError, Result};
use crate::model::SwitchTransformers;
use crate::parameters::{specs, ParameterSpec, Parameters, Role};
use crate::weight::{out_of_memory, try_zeros, Weight};

/// What a slot learns of its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    All,
    AdapterA,
    AdapterB,
}

/// One tensor that an optimiser changes.
pub struct Slot {
    /// The parameter's name; of adapters PEFT's.
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    pub learning_rate_scale: f64,
    /// `None`: the optimiser's.
    pub weight_decay: Option<f64>,
    weight: Weight,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn trainable(&self) -> Result<&Trainable> {
        self.weight.trainable().ok_or_else(|| ModelError::internal("a slot whose weight does not learn"))
    }

    pub fn clear_gradient(&self) {
        if let Some(trainable) = self.weight.trainable() {
            trainable.clear_gradient();
        }
    }

    /// Gives the gradient's memory back.
    pub fn free_gradient(&self) {
        if let Some(trainable) = self.weight.trainable() {
            trainable.free_device();
        }
        match self.weight.trainable().map(|trainable| &trainable.learned) {
            Some(Learned::All(gradient)) => *lock(gradient) = Gradient::default(),
            Some(Learned::Adapter(adapter)) => {
                let mut adapter = lock(adapter);
                adapter.a_gradient = Gradient::default();
                adapter.b_gradient = Gradient::default();
            }
            None => {}
        }
    }

    /// Calls `f` with the values and their gradient, if there is one.
    ///
    /// # Safety
    /// Nothing reads the model's weights meanwhile.
    pub unsafe fn update<T>(&self, f: impl FnOnce(&mut [f32], Option<&[f32]>) -> T) -> Result<T> {
        let trainable = self.trainable()?;
        trainable.fetch()?;
        match (&trainable.learned, self.kind) {
            (Learned::All(gradient), _) => {
                // SAFETY: the caller's promise.
                let values = unsafe { trainable.values_mut() };
                let result = f(values, lock(gradient).get());
                self.refresh_on_device()?;
                Ok(result)
            }
            (Learned::Adapter(adapter), kind) => {
                let Adapter { a, b, a_gradient, b_gradient, .. } = &mut *lock(adapter);
                Ok(match kind {
                    Kind::AdapterB => f(b, b_gradient.get()),
                    _ => f(a, a_gradient.get()),
                })
            }
        }
    }

    /// Calls `f` with the gradient, if there is one.
    pub fn with_gradient<T>(&self, f: impl FnOnce(Option<&[f32]>) -> T) -> Result<T> {
        let trainable = self.trainable()?;
        trainable.fetch()?;
        match (&trainable.learned, self.kind) {
            (Learned::All(gradient), _) => Ok(f(lock(gradient).get())),
            (Learned::Adapter(adapter), Kind::AdapterB) => Ok(f(lock(adapter).b_gradient.get())),
            (Learned::Adapter(adapter), _) => Ok(f(lock(adapter).a_gradient.get())),
        }
    }

    /// A copy of the gradient; zeros where there is none.
    pub fn gradient(&self) -> Result<Vec<f32>> {
        let mut copy = try_zeros(self.elements())?;
        self.with_gradient(|gradient| {
            if let Some(gradient) = gradient {
                copy.copy_from_slice(gradient);
            }
        })?;
        Ok(copy)
    }

    /// Calls `f` with the values.
    pub fn with_values<T>(&self, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
        let trainable = self.trainable()?;
        match (&trainable.learned, self.kind) {
            (Learned::All(_), _) => Ok(f(trainable.values())),
            (Learned::Adapter(adapter), Kind::AdapterB) => Ok(f(&lock(adapter).b)),
            (Learned::Adapter(adapter), _) => Ok(f(&lock(adapter).a)),
        }
    }

    /// Writes an adapter's sum into its weight, after the adapter has changed. Once per adapter is enough: with its B.
    ///
    /// # Safety
    /// Nothing reads the model's weights meanwhile.
    pub unsafe fn refresh(&self) -> Result<()> {
        let trainable = self.trainable()?;
        match (&trainable.learned, self.kind) {
            // SAFETY: the caller's promise.
            (Learned::Adapter(adapter), Kind::AdapterB) => {
                lock(adapter).merge_into(unsafe { trainable.values_mut() })?;
                self.refresh_on_device()
            }
            _ => Ok(()),
        }
    }

    /// Brings the weight's copy on a device up to date.
    fn refresh_on_device(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        self.weight.refresh_on_cuda()?;
        Ok(())
    }

    /// Makes the sum the new base and the adapter nothing.
    pub fn merge_adapter(&self) -> Result<()> {
        let trainable = self.trainable()?;
        if let (Learned::Adapter(adapter), Kind::AdapterB) = (&trainable.learned, self.kind) {
            let base = Weight::from_f32(trainable.values().to_vec(), self.weight.shape())?;
            let mut adapter = lock(adapter);
            adapter.base = base;
            adapter.b.fill(0.0);
            adapter.clear();
        }
        Ok(())
    }
}

/// Whether the options leave a parameter open to training.
fn open(options: &TrainingOptions, spec: &ParameterSpec) -> bool {
    let part = match options.trainable {
        TrainablePart::All => true,
        TrainablePart::NonExpert => !spec.expert,
        TrainablePart::Expert => spec.expert,
    };
    part && !options.frozen.iter().any(|pattern| matches(pattern, &spec.name))
}

/// Whether a parameter gets an adapter: `….q.weight` for the target `q`.
fn adapted(lora: &LoraOptions, spec: &ParameterSpec) -> bool {
    let projection = !matches!(spec.role, Role::Router | Role::Norm | Role::RelativeBias | Role::Embedding);
    let module = spec.name.strip_suffix(".weight").and_then(|name| name.rsplit('.').next());
    projection && module.is_some_and(|module| lora.targets.iter().any(|target| target == module))
}

/// The model's parameters, those that learn in float32 with a gradient, and a slot for each of these.
pub fn trainable(
    model: &SwitchTransformers,
    options: &TrainingOptions,
    available: Option<u64>,
) -> Result<(Parameters, Vec<Slot>)> {
    options.check()?;
    let specs = specs(model.config(), model.architecture());
    let learns = |spec: &ParameterSpec| open(options, spec) && options.lora.as_ref().is_none_or(|l| adapted(l, spec));
    let elements = |spec: &ParameterSpec| spec.elements().unwrap_or(usize::MAX) as u128;
    let learned: u128 = specs.iter().filter(|spec| learns(spec)).map(elements).sum();
    if learned == 0 {
        let message = "no parameter is trained: trainable, frozen and lora leave none; train more of the model";
        return Err(ModelError::new(code::INVALID_OPTION, message));
    }
    // Values and gradients; the optimiser's state comes as it is needed.
    let needed = if options.lora.is_some() { learned * 4 } else { learned * 8 };
    if available.is_some_and(|available| needed > u128::from(available)) {
        return Err(out_of_memory(needed));
    }
    let precision = match options.precision {
        // Forwards in float32; on the way back sums of two bfloat16, whose error (5e-6) is that of float32's sums.
        TrainingPrecision::Float32 => Precision::High,
        TrainingPrecision::Bfloat16 => Precision::Bfloat16,
    };
    let mut parameters = Parameters::default();
    let mut slots = Vec::new();
    for spec in specs {
        let weight = model.parameters().get(&spec.name)?;
        // The router is multiplied in float32 whatever the rest is (paper, section 2.4).
        let precision = if spec.role == Role::Router { Precision::Float32 } else { precision };
        if !learns(&spec) {
            parameters.insert(spec.name, weight.with_precision(precision));
            continue;
        }
        let values = weight.to_f32()?;
        let learned = match &options.lora {
            None => Learned::All(Mutex::new(Gradient::default())),
            Some(lora) => Learned::Adapter(Mutex::new(adapter(&spec, weight, lora, options.seed)?)),
        };
        let weight = Weight::from_trainable(Trainable::new(values, learned), &spec.shape)?.with_precision(precision);
        push_slots(&mut slots, &spec, &weight, options);
        parameters.insert(spec.name, weight);
    }
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((parameters, slots))
}

fn push_slots(slots: &mut Vec<Slot>, spec: &ParameterSpec, weight: &Weight, options: &TrainingOptions) {
    let group = options.parameter_groups.iter().find(|g| g.patterns.iter().any(|p| matches(p, &spec.name)));
    let mut push = |name: String, shape: Vec<usize>, kind| {
        slots.push(Slot {
            name,
            shape,
            kind,
            learning_rate_scale: group.map_or(1.0, |g| g.learning_rate_scale),
            weight_decay: group.and_then(|g| g.weight_decay),
            weight: weight.clone(),
        });
    };
    match (&options.lora, spec.shape.as_slice()) {
        (Some(lora), &[rows, cols]) => {
            let module = format!("base_model.model.{}", spec.name.trim_end_matches(".weight"));
            push(format!("{module}.lora_A.weight"), vec![lora.rank, cols], Kind::AdapterA);
            push(format!("{module}.lora_B.weight"), vec![rows, lora.rank], Kind::AdapterB);
        }
        _ => push(spec.name.clone(), spec.shape.clone(), Kind::All),
    }
}

/// A as PEFT draws it (Kaiming's uniform with a = √5: within 1/√in_features), B zero.
fn adapter(spec: &ParameterSpec, base: Weight, lora: &LoraOptions, seed: u64) -> Result<Adapter> {
    let &[rows, cols] = spec.shape.as_slice() else {
        return Err(ModelError::internal(format!("an adapter for a weight of shape {:?}", spec.shape)));
    };
    let mut a = try_zeros(lora.rank.checked_mul(cols).ok_or_else(|| out_of_memory(u128::MAX))?)?;
    let b = try_zeros(lora.rank.checked_mul(rows).ok_or_else(|| out_of_memory(u128::MAX))?)?;
    let bound = (1.0 / cols.max(1) as f64).sqrt();
    let uniform = Uniform::new(-bound, bound).map_err(|e| ModelError::internal(e.to_string()))?;
    // Each matrix has draws of its own, which do not depend on what else is trained.
    let of_name = spec.name.bytes().fold(seed, |hash, byte| super::mix(hash, u64::from(byte)));
    let mut rng = ChaCha8Rng::seed_from_u64(of_name);
    a.iter_mut().for_each(|value| *value = uniform.sample(&mut rng) as f32);
    Ok(Adapter {
        base,
        rank: lora.rank,
        scale: lora.scale(),
        a,
        b,
        a_gradient: Gradient::default(),
        b_gradient: Gradient::default(),
    })
}
