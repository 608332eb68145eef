//! `y = x · wᵀ`: the product that a linear layer is.

use crate::error::{expect_len, product, KernelError};
use crate::gemm::{self, Block};
use crate::matrix::Matrix;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// `y[n, w.rows] = x[n, w.cols] · wᵀ`, summed in float32. A row of `y` is the same, to the bit, whatever rows stand
/// beside it; but for AMX, with which products of many rows are rounded differently from those of few.
pub fn linear(x: &[f32], n: usize, w: Matrix<'_>, y: &mut [f32]) -> Result<(), KernelError> {
    linear_with(Precision::Float32, x, n, w, y)
}

/// [`linear`] with the given precision.
pub fn linear_with(precision: Precision, x: &[f32], n: usize, w: Matrix<'_>, y: &mut [f32]) -> Result<(), KernelError> {
    w.check()?;
    expect_len("linear input elements", x.len(), product("linear input", n, w.cols)?)?;
    expect_len("linear output elements", y.len(), product("linear output", n, w.rows)?)?;
    let inputs = gemm::prepare(precision, x, w.cols, std::iter::once((0..n, w)))?;
    let out = Disjoint::new(y);
    parallel::for_each_range(w.rows, feature_grain(n, w.cols), |features| {
        let block = Block { x, x_stride: w.cols, n, w, y: out.as_ptr(), y_stride: w.rows };
        // SAFETY: the lengths were checked above, and no two ranges share a feature.
        unsafe { gemm::product(block, &inputs, 0, features) };
    });
    Ok(())
}

/// Features per thread that make enough work.
pub(crate) fn feature_grain(n: usize, cols: usize) -> usize {
    let work = cols.saturating_mul(n).max(1);
    GRAIN.div_ceil(work).next_multiple_of(gemm::TASK_FEATURES)
}
