//! Tensors, files and replies as they cross the boundary.

use std::sync::Arc;

use switch_checkpoint::ByteSource;

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
