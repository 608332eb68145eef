//! Loading: first every name and shape is checked, then weights are taken in place or read, in steps.

use candle_core::Device;
use std::sync::Arc;

use half::vec::HalfFloatVecExt;
use half::{bf16, f16};
use switch_checkpoint::{Checkpoint, Dtype, TensorInfo};
use switch_kernels::Precision;

use super::matching::{match_tensors, Stored};
use crate::config::SwitchTransformersConfig;
use crate::error::{code, ModelError, Result};
use crate::model::{ExpertDevice, SwitchTransformers};
use crate::parameters::{specs, Architecture, ParameterSpec, Parameters, Role};
use crate::quantisation::{Kind, QuantisedMatrix, Recipe};
use crate::routing::RoutingPolicy;
use crate::weight::{out_of_memory, try_filled, try_zeros, StorageDtype, Weight};

/// What weights are kept as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadDtype {
    /// As the checkpoint has them.
    Stored,
    /// In this type of floating-point numbers, quantised ones too.
    Float(StorageDtype),
    /// Quantised; what the recipe leaves is kept as the checkpoint has it.
    Quantised(Recipe),
}

/// How far a load has come, in bytes of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub loaded_bytes: u64,
    pub total_bytes: u64,
}

/// A load under way. Dropping it gives it up.
pub struct Loader {
    checkpoint: Arc<Checkpoint>,
    config: SwitchTransformersConfig,
    architecture: Architecture,
    policy: RoutingPolicy,
    dtype: LoadDtype,
    pending: std::vec::IntoIter<(ParameterSpec, Stored)>,
    parameters: Parameters,
    progress: Progress,
    device: Device,
    experts: ExpertDevice,
}

impl Loader {
    /// Checks every tensor against `config`; missing, unexpected and mis-shaped ones are named in one error.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        mut config: SwitchTransformersConfig,
        architecture: Architecture,
        policy: RoutingPolicy,
        dtype: LoadDtype,
    ) -> Result<Self> {
        let specs = specs(&config, architecture);
        let found = match_tensors(&checkpoint, &config, architecture, specs)?;
        let total_bytes = found.iter().map(|(_, stored)| stored.bytes()).sum();
        match &dtype {
            LoadDtype::Stored => {}
            LoadDtype::Float(_) => config.quantization = None,
            LoadDtype::Quantised(recipe) => config.quantization = Some(recipe.clone()),
        }
        Ok(Self {
            checkpoint,
            config,
            architecture,
            policy,
            dtype,
            pending: found.into_iter(),
            parameters: Parameters::default(),
            progress: Progress { loaded_bytes: 0, total_bytes },
            device: Device::Cpu,
            experts: ExpertDevice::default(),
        })
    }

    /// The model is to compute on `device`, with its experts where `experts` says.
    pub fn on(mut self, device: Device, experts: ExpertDevice) -> Self {
        (self.device, self.experts) = (device, experts);
        self
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Loads about `max_bytes` more; true when nothing is left.
    pub fn step(&mut self, max_bytes: u64) -> Result<bool> {
        let until = self.progress.loaded_bytes.saturating_add(max_bytes.max(1));
        while self.progress.loaded_bytes < until {
            let Some((spec, stored)) = self.pending.next() else { return Ok(true) };
            let weight = self.weight(&spec, &stored)?.with_precision(self.precision(spec.role));
            self.parameters.insert(spec.name, weight);
            self.progress.loaded_bytes += stored.bytes();
        }
        Ok(self.pending.len() == 0)
    }

    /// The model, once every step is done.
    pub fn finish(self) -> Result<SwitchTransformers> {
        SwitchTransformers::build(self.config, self.architecture, self.policy, self.parameters)?
            .on(self.device, self.experts)
    }

    /// Who asks for bfloat16 by name does not need float32's last bits; but for the router and position bias.
    fn precision(&self, role: Role) -> Precision {
        match (&self.dtype, role) {
            (_, Role::Router | Role::RouterBias | Role::RelativeBias | Role::Norm) => Precision::Float32,
            (LoadDtype::Float(StorageDtype::Bf16), _) => Precision::Reduced,
            _ => Precision::Float32,
        }
    }

    fn weight(&self, spec: &ParameterSpec, stored: &Stored) -> Result<Weight> {
        let wanted = match (&self.dtype, stored) {
            (LoadDtype::Stored, Stored::Quantised { kind, .. }) => Some(*kind),
            (LoadDtype::Quantised(recipe), _) => recipe.kind(spec),
            _ => None,
        };
        match (stored, wanted) {
            (Stored::Quantised { kind, values, scales }, wanted) => {
                let weight = self.quantised(spec, *kind, values, scales)?;
                match wanted {
                    Some(wanted) if wanted == *kind => Ok(weight),
                    Some(wanted) => weight.quantise(wanted, &spec.name),
                    None => self.dequantised(&weight),
                }
            }
            (Stored::Float(info), None) => self.float(spec, info),
            (Stored::Float(info), Some(kind)) => {
                let mut values = try_zeros(elements(spec, info)?)?;
                self.checkpoint.read_f32(info, &mut values)?;
                let cols = spec.shape.last().copied().unwrap_or(0);
                let quantised = QuantisedMatrix::quantise(kind, &spec.name, &values, cols)?;
                Weight::from_quantised(quantised, &spec.shape)
            }
        }
    }

    /// A quantised tensor as it is stored.
    fn quantised(&self, spec: &ParameterSpec, kind: Kind, values: &TensorInfo, scales: &TensorInfo) -> Result<Weight> {
        let matrix = match (self.checkpoint.mapped(values), self.checkpoint.mapped(scales)) {
            (Some(values), Some(scales)) => QuantisedMatrix::mapped(kind, values, scales)?,
            _ => {
                let mut bytes = try_filled(kind.value_bytes(elements(spec, values)?), 0u8)?;
                self.checkpoint.read_bytes(values, 0, &mut bytes)?;
                // At most as many as the values.
                let mut steps = try_zeros(scales.shape.iter().product())?;
                self.checkpoint.read_f32(scales, &mut steps)?;
                QuantisedMatrix::owned(kind, bytes, steps)
            }
        };
        matrix.check_scales(&spec.name)?;
        Weight::from_quantised(matrix, &spec.shape)
    }

    /// A quantised weight in floating point.
    fn dequantised(&self, weight: &Weight) -> Result<Weight> {
        let wide = weight.to_f32()?;
        let half = |dtype, bits: &dyn Fn(f32) -> u16| {
            let mut halves = try_filled(wide.len(), 0u16)?;
            halves.iter_mut().zip(&wide).for_each(|(half, wide)| *half = bits(*wide));
            Weight::from_half_bits(halves, dtype, weight.shape())
        };
        match self.dtype {
            LoadDtype::Float(dtype @ StorageDtype::F16) => half(dtype, &|x| f16::from_f32(x).to_bits()),
            LoadDtype::Float(dtype @ StorageDtype::Bf16) => half(dtype, &|x| bf16::from_f32(x).to_bits()),
            _ => Weight::from_f32(wide, weight.shape()),
        }
    }

    fn float(&self, spec: &ParameterSpec, info: &TensorInfo) -> Result<Weight> {
        let stored = match info.dtype {
            Dtype::F16 => Some(StorageDtype::F16),
            Dtype::Bf16 => Some(StorageDtype::Bf16),
            Dtype::F32 => Some(StorageDtype::F32),
            Dtype::F64 => None,
            other => {
                let message = format!(
                    "tensor {} is {}, expected a float type; quantised weights need quantization_config in config.json",
                    info.name,
                    other.name()
                );
                return Err(ModelError::new(code::CHECKPOINT_UNSUPPORTED, message));
            }
        };
        // float32 is what half precision is computed in anyway: widening it beforehand would double the memory for the
        // same numbers.
        let target = match (&self.dtype, stored) {
            (LoadDtype::Stored | LoadDtype::Quantised(_) | LoadDtype::Float(StorageDtype::F32), Some(stored)) => stored,
            (LoadDtype::Float(dtype), _) => *dtype,
            (_, None) => StorageDtype::F32,
        };
        if stored == Some(target) {
            if let Some(bytes) = self.checkpoint.mapped(info) {
                return Weight::from_mapped(bytes, target, &spec.shape);
            }
        }
        let elements = elements(spec, info)?;
        match target {
            StorageDtype::Int8 | StorageDtype::Int4 => Err(ModelError::internal("a quantised type of floats")),
            StorageDtype::F32 => {
                let mut values = try_zeros(elements)?;
                self.checkpoint.read_f32(info, &mut values)?;
                Weight::from_f32(values, &spec.shape)
            }
            StorageDtype::F16 => {
                let mut values = try_filled(elements, half::f16::ZERO)?;
                self.checkpoint.read_f16(info, &mut values)?;
                Weight::from_half_bits(values.reinterpret_into(), target, &spec.shape)
            }
            StorageDtype::Bf16 => {
                let mut values = try_filled(elements, half::bf16::ZERO)?;
                self.checkpoint.read_bf16(info, &mut values)?;
                Weight::from_half_bits(values.reinterpret_into(), target, &spec.shape)
            }
        }
    }
}

/// Elements of a parameter, which its tensor has been found to have.
fn elements(spec: &ParameterSpec, info: &TensorInfo) -> Result<usize> {
    spec.elements().ok_or_else(|| out_of_memory(u128::from(info.elements()) * 4))
}
