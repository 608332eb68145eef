//! What a checkpoint says of a tensor, before any of its values are read.
use crate::dtype::Dtype;

/// Where a tensor's elements lie in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, without gaps: `len` bytes at `offset` of the file.
    Contiguous { offset: u64, len: u64 },
    /// Element `(i, j, …)` lies `i * strides[0] + j * strides[1] + …` elements after byte `offset` of the file.
    /// Only pickles have these.
    Strided { offset: u64, strides: Vec<u64> },
}

impl Layout {
    /// Byte of the file where the first element is.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Contiguous { offset, .. } | Self::Strided { offset, .. } => *offset,
        }
    }
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: Dtype,
    /// Empty for a scalar.
    pub shape: Vec<usize>,
    /// Which of the checkpoint's files it is in.
    pub file: usize,
    pub layout: Layout,
}

impl TensorInfo {
    /// Number of elements. Tensors of an open checkpoint never overflow it.
    pub fn elements(&self) -> u64 {
        elements(&self.shape).unwrap_or(u64::MAX)
    }

    /// Bytes of the elements, row-major and without gaps.
    pub fn bytes(&self) -> u64 {
        self.elements().saturating_mul(self.dtype.size() as u64)
    }
}

/// Product of the dimensions; `None` if it overflows on the way.
pub(crate) fn elements(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64))
}
