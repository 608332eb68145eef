//! Stored weights: what a linear layer multiplies by, in the layout and type of the checkpoint.

use crate::error::{expect_len, product, KernelError};
use crate::quantised;
use half::{bf16, f16};

/// Elements as stored. Halves are raw bits, so that mapped bytes can be used in place.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Bf16(&'a [u16]),
    /// Int8 with a scale per row (see [`mod@crate::quantised`]).
    I8 {
        values: &'a [i8],
        scales: &'a [f32],
    },
    /// Int4, two to a byte, with a scale per `group` columns of a row (see [`mod@crate::quantised`]).
    I4 {
        values: &'a [u8],
        scales: &'a [f32],
        group: usize,
    },
}

impl Values<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) | Self::Bf16(v) => v.len(),
            Self::I8 { values, .. } => values.len(),
            Self::I4 { values, .. } => values.len().saturating_mul(2),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the elements take, scales included.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(v) => size_of_val(*v),
            Self::F16(v) | Self::Bf16(v) => size_of_val(*v),
            Self::I8 { values, scales } => values.len() + size_of_val(*scales),
            Self::I4 { values, scales, .. } => values.len() + size_of_val(*scales),
        }
    }

    /// Widens elements `start..start + out.len()` into `out`, exactly; elements past the end leave `out` untouched.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(v) => {
                for (o, &x) in out.iter_mut().zip(v.iter().skip(start)) {
                    *o = x;
                }
            }
            Self::F16(v) => {
                for (o, &x) in out.iter_mut().zip(v.iter().skip(start)) {
                    *o = f16::from_bits(x).to_f32();
                }
            }
            Self::Bf16(v) => {
                for (o, &x) in out.iter_mut().zip(v.iter().skip(start)) {
                    *o = bf16::from_bits(x).to_f32();
                }
            }
            Self::I8 { values, scales } => quantised::widen_int8(values, scales, start, out),
            Self::I4 { values, scales, group } => quantised::widen_int4(values, scales, *group, start, out),
        }
    }
}

/// A weight matrix, row-major `[rows, cols]` = `[out_features, in_features]` as torch's `Linear` stores it.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub values: Values<'a>,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    /// Fails unless `values` has `rows * cols` elements.
    pub fn new(values: Values<'a>, rows: usize, cols: usize) -> Result<Self, KernelError> {
        let matrix = Self { values, rows, cols };
        matrix.check()?;
        Ok(matrix)
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        expect_len("weight elements", self.values.len(), product("weight", self.rows, self.cols)?)?;
        quantised::check(self)
    }

    /// Rows `first..first + rows` as a matrix of their own; a projection's slice of a fused weight, for example.
    pub fn rows_at(&self, first: usize, rows: usize) -> Result<Self, KernelError> {
        self.check()?;
        let end = first.checked_add(rows).filter(|&end| end <= self.rows).ok_or(KernelError::Shape {
            what: "last row of a weight's slice",
            expected: self.rows,
            found: first.saturating_add(rows),
        })?;
        let range = first * self.cols..end * self.cols;
        let values = match self.values {
            Values::F32(v) => Values::F32(&v[range]),
            Values::F16(v) => Values::F16(&v[range]),
            Values::Bf16(v) => Values::Bf16(&v[range]),
            Values::I8 { values, scales } => Values::I8 { values: &values[range], scales: &scales[first..end] },
            Values::I4 { values, scales, group } => Values::I4 {
                values: &values[range.start / 2..range.end / 2],
                scales: &scales[range.start / group..range.end / group],
                group,
            },
        };
        Ok(Self { values, rows, cols: self.cols })
    }

    /// Widens row `row` into `out`, which holds `cols` elements.
    pub(crate) fn widen_row(&self, row: usize, out: &mut [f32]) {
        self.values.widen(row * self.cols, out);
    }
}
