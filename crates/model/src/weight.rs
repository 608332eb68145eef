//! A weight matrix as it is stored: mapped from its file, or owned. Cheap to clone.
//!
//! Activations are float32; a weight keeps its storage type and the kernels widen it as they read, so that half
//! precision costs half the memory and float32 arithmetic on it is exact. Where bfloat16 was asked for by name, large
//! products may round their inputs too (`precision`).

use std::sync::Arc;

use half::{bf16, f16};
use switch_checkpoint::MappedBytes;
use switch_kernels::{Matrix, Precision, Values};

use crate::error::{code, ModelError, Result};
use crate::quantisation::{Kind, QuantisedMatrix};
use crate::training::Trainable;

/// What a weight may be stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageDtype {
    F32,
    F16,
    Bf16,
    /// Quantised, with a scale per row.
    Int8,
    /// Quantised, two to a byte, with a scale per group of columns.
    Int4,
}

impl StorageDtype {
    /// Bytes of one element, rounded up.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 | Self::Int4 => 1,
        }
    }

    /// The name in `dtype` options and in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// A type of floating-point numbers by name; the quantised ones are a [`Recipe`](crate::quantisation::Recipe)'s.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|d| d.name() == name)
    }
}

enum Storage {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    /// Checked on construction to be aligned and of the right length.
    Mapped(StorageDtype, MappedBytes),
    /// Float32 values that training changes, with their gradient.
    Trained(Trainable),
    Quantised(QuantisedMatrix),
}

/// A tensor of one or two dimensions, row-major.
#[derive(Clone)]
pub struct Weight {
    storage: Arc<Storage>,
    shape: Vec<usize>,
    precision: Precision,
    #[cfg(feature = "cuda")]
    cuda: Arc<crate::cuda::WeightCopy>,
}

impl Weight {
    /// A weight that training changes.
    pub fn from_trainable(values: Trainable, shape: &[usize]) -> Result<Self> {
        Self::checked(values.values().len(), Storage::Trained(values), shape)
    }

    /// The same weight, multiplied in the given precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// What operands may be rounded to where this weight is multiplied.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The gradient's place, where training changes this weight.
    pub fn trainable(&self) -> Option<&Trainable> {
        match &*self.storage {
            Storage::Trained(trainable) => Some(trainable),
            _ => None,
        }
    }

    /// The values of a weight that is stored in float32, as norms and position bias are.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match self.values() {
            Values::F32(values) => Ok(values),
            _ => Err(ModelError::internal("expected a weight in float32")),
        }
    }

    /// This weight in float32: itself where it is already.
    pub fn widened(&self) -> Result<Self> {
        match self.values() {
            Values::F32(_) => Ok(self.clone()),
            _ => Self::from_f32(self.to_f32()?, &self.shape),
        }
    }

    pub fn from_f32(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Self::checked(values.len(), Storage::F32(values), shape)
    }

    /// Values in int8 or int4 with their scales.
    pub fn from_quantised(matrix: QuantisedMatrix, shape: &[usize]) -> Result<Self> {
        let weight = Self::checked(matrix.values().len(), Storage::Quantised(matrix), shape)?;
        weight.matrix()?;
        Ok(weight)
    }

    /// This matrix in a quantised form; `name` is for errors.
    pub fn quantise(&self, kind: Kind, name: &str) -> Result<Self> {
        let cols = self.matrix()?.cols;
        let quantised = match self.values() {
            Values::F32(values) => QuantisedMatrix::quantise(kind, name, values, cols)?,
            _ => QuantisedMatrix::quantise(kind, name, &self.to_f32()?, cols)?,
        };
        Self::from_quantised(quantised, &self.shape)
    }

    /// The quantised form, if this weight has one.
    pub fn quantised(&self) -> Option<&QuantisedMatrix> {
        match &*self.storage {
            Storage::Quantised(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// Raw bits of float16 or bfloat16 values.
    pub fn from_half_bits(bits: Vec<u16>, dtype: StorageDtype, shape: &[usize]) -> Result<Self> {
        let len = bits.len();
        match dtype {
            StorageDtype::F16 => Self::checked(len, Storage::F16(bits), shape),
            StorageDtype::Bf16 => Self::checked(len, Storage::Bf16(bits), shape),
            _ => Err(ModelError::internal(format!("half-precision bits given as {}", dtype.name()))),
        }
    }

    /// Uses mapped bytes in place.
    pub fn from_mapped(bytes: MappedBytes, dtype: StorageDtype, shape: &[usize]) -> Result<Self> {
        let slice = bytes.as_slice();
        if matches!(dtype, StorageDtype::Int8 | StorageDtype::Int4) {
            return Err(ModelError::internal("quantised values without their scales"));
        }
        if slice.as_ptr().align_offset(dtype.size()) != 0 || !slice.len().is_multiple_of(dtype.size()) {
            return Err(ModelError::internal("a mapped tensor is not aligned"));
        }
        Self::checked(slice.len() / dtype.size(), Storage::Mapped(dtype, bytes), shape)
    }

    fn checked(len: usize, storage: Storage, shape: &[usize]) -> Result<Self> {
        let expected = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if expected != Some(len) {
            return Err(ModelError::internal(format!("a weight of shape {shape:?} was given {len} values")));
        }
        Ok(Self {
            storage: Arc::new(storage),
            shape: shape.to_vec(),
            precision: Precision::default(),
            #[cfg(feature = "cuda")]
            cuda: Arc::default(),
        })
    }

    /// The copy on a CUDA device, shared by every clone.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_copy(&self) -> &crate::cuda::WeightCopy {
        &self.cuda
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn dtype(&self) -> StorageDtype {
        match &*self.storage {
            Storage::F32(_) | Storage::Trained(_) => StorageDtype::F32,
            Storage::F16(_) => StorageDtype::F16,
            Storage::Bf16(_) => StorageDtype::Bf16,
            Storage::Mapped(dtype, _) => *dtype,
            Storage::Quantised(matrix) => matrix.kind().dtype(),
        }
    }

    /// The values for the kernels.
    pub fn values(&self) -> Values<'_> {
        match &*self.storage {
            Storage::F32(v) => Values::F32(v),
            Storage::Trained(v) => Values::F32(v.values()),
            Storage::F16(v) => Values::F16(v),
            Storage::Bf16(v) => Values::Bf16(v),
            Storage::Quantised(matrix) => matrix.values(),
            // Alignment and length were checked when the weight was made, so the casts are whole.
            Storage::Mapped(StorageDtype::F32, b) => Values::F32(bytemuck::try_cast_slice(b.as_slice()).unwrap_or(&[])),
            Storage::Mapped(StorageDtype::F16, b) => Values::F16(bytemuck::try_cast_slice(b.as_slice()).unwrap_or(&[])),
            Storage::Mapped(StorageDtype::Bf16, b) => {
                Values::Bf16(bytemuck::try_cast_slice(b.as_slice()).unwrap_or(&[]))
            }
            // Refused by `from_mapped`.
            Storage::Mapped(StorageDtype::Int8 | StorageDtype::Int4, _) => Values::F32(&[]),
        }
    }

    /// As the matrix `[rows, cols]` of a linear layer or an embedding.
    pub fn matrix(&self) -> Result<Matrix<'_>> {
        let &[rows, cols] = self.shape.as_slice() else {
            return Err(ModelError::internal(format!("a weight of shape {:?} used as a matrix", self.shape)));
        };
        Ok(Matrix::new(self.values(), rows, cols)?)
    }

    /// Values `start..start + into.len()` as float32.
    pub fn read_f32(&self, start: usize, into: &mut [f32]) -> Result<()> {
        let end = start.checked_add(into.len()).filter(|end| *end <= self.elements());
        let Some(end) = end else {
            return Err(ModelError::internal("a read past the end of a weight"));
        };
        match self.values() {
            Values::F32(v) => into.copy_from_slice(&v[start..end]),
            Values::F16(v) => into.iter_mut().zip(&v[start..end]).for_each(|(o, b)| *o = f16::from_bits(*b).to_f32()),
            Values::Bf16(v) => into.iter_mut().zip(&v[start..end]).for_each(|(o, b)| *o = bf16::from_bits(*b).to_f32()),
            quantised @ (Values::I8 { .. } | Values::I4 { .. }) => quantised.widen(start, into),
        }
        Ok(())
    }

    /// All values as float32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut values = try_zeros(self.elements())?;
        self.read_f32(0, &mut values)?;
        Ok(values)
    }
}

/// A zeroed buffer, or `OUT_OF_MEMORY` where it cannot be had.
pub fn try_zeros(len: usize) -> Result<Vec<f32>> {
    try_filled(len, 0.0)
}

/// A buffer of `len` times `value`, or `OUT_OF_MEMORY` where it cannot be had.
pub fn try_filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| out_of_memory(len as u128 * size_of::<T>() as u128))?;
    values.resize(len, value);
    Ok(values)
}

/// The error for `bytes` that cannot be had.
pub fn out_of_memory(bytes: u128) -> ModelError {
    let message = format!("could not allocate {bytes} bytes; use a smaller model, batch or length, or a smaller dtype");
    ModelError::new(code::OUT_OF_MEMORY, message).with_details(serde_json::json!({ "bytes": bytes as f64 }))
}
