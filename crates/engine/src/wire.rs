//! Tensors, files and replies as they cross the boundary.

use std::sync::Arc;

use switch_checkpoint::ByteSource;

use crate::Failure;

/// Element types of `WireDtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    Float32,
    Int32,
    Int64,
    Uint8,
}

impl Dtype {
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Float32, Self::Int32, Self::Int64, Self::Uint8].into_iter().find(|d| d.name() == name)
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Float32 | Self::Int32 => 4,
            Self::Int64 => 8,
            Self::Uint8 => 1,
        }
    }
}

/// `WireTensor`: little-endian elements, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    pub data: Vec<u8>,
}

/// Whole numbers up to here are exact in the host's f64.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

impl Tensor {
    /// A tensor as the host gave it: `dtype` by name and `dims` as JavaScript's numbers, so that a fraction is refused
    /// rather than cut. INVALID_INPUT unless `data` holds exactly the bytes that `dims` and `dtype` call for.
    pub fn from_host(name: String, dtype: &str, dims: &[f64], data: Vec<u8>) -> Result<Self, Failure> {
        let invalid = |what: String| Failure::new("INVALID_INPUT", format!("tensor {name:?}: {what}"));
        let dtype = Dtype::parse(dtype)
            .ok_or_else(|| invalid(format!("dtype {dtype:?} is not one of float32, int32, int64, uint8")))?;
        let dims = dims
            .iter()
            .map(|&dim| {
                let whole = (0.0..=LARGEST_EXACT).contains(&dim) && dim.fract() == 0.0;
                whole
                    .then_some(dim)
                    .and_then(|dim| usize::try_from(dim as u64).ok())
                    .ok_or_else(|| invalid(format!("dims hold {dim}, which is not a whole number from 0")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let expected = dims.iter().try_fold(dtype.size(), |bytes, &dim| bytes.checked_mul(dim));
        if expected != Some(data.len()) {
            let expected = expected.map_or("more bytes than can exist".to_owned(), |bytes| format!("{bytes} bytes"));
            return Err(invalid(format!(
                "{} bytes of data, but dims {dims:?} of {} need {expected}",
                data.len(),
                dtype.name()
            )));
        }
        Ok(Self { name, dtype, dims, data })
    }
}

/// A file to read from.
#[derive(Clone)]
pub struct Source {
    pub name: String,
    pub bytes: Arc<dyn ByteSource>,
}

/// What an operation answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    pub json: String,
    pub tensors: Vec<Tensor>,
}

impl Tensor {
    pub fn from_f32(name: impl Into<String>, dims: &[usize], values: &[f32]) -> Self {
        let data = bytemuck::cast_slice(values).to_vec();
        Self { name: name.into(), dtype: Dtype::Float32, dims: dims.to_vec(), data }
    }

    pub fn from_i32(name: impl Into<String>, dims: &[usize], values: &[i32]) -> Self {
        let data = bytemuck::cast_slice(values).to_vec();
        Self { name: name.into(), dtype: Dtype::Int32, dims: dims.to_vec(), data }
    }

    pub fn from_i64(name: impl Into<String>, dims: &[usize], values: &[i64]) -> Self {
        let data = bytemuck::cast_slice(values).to_vec();
        Self { name: name.into(), dtype: Dtype::Int64, dims: dims.to_vec(), data }
    }

    /// A candle tensor of float32.
    pub fn from_candle(name: impl Into<String>, tensor: &candle_core::Tensor) -> candle_core::Result<Self> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self::from_f32(name, tensor.dims(), &values))
    }
}
