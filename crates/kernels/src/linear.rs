//! `y = x · wᵀ`: the product that a linear layer is.

use crate::error::{expect_len, product, KernelError};
use crate::matrix::Matrix;
use crate::parallel::{self, Disjoint};

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 32 * 1024;

/// `y[n, w.rows] = x[n, w.cols] · wᵀ`, summed in float32. A row of `y` is the same, to the bit, whatever rows stand
/// beside it.
pub fn linear(x: &[f32], n: usize, w: Matrix<'_>, y: &mut [f32]) -> Result<(), KernelError> {
    w.check()?;
    expect_len("linear input elements", x.len(), product("linear input", n, w.cols)?)?;
    expect_len("linear output elements", y.len(), product("linear output", n, w.rows)?)?;
    let work = w.cols.saturating_mul(n).max(1);
    let out = Disjoint::new(y);
    parallel::for_each_range(w.rows, GRAIN.div_ceil(work), |features| {
        let mut weights = vec![0.0; w.cols];
        for feature in features {
            w.widen_row(feature, &mut weights);
            for row in 0..n {
                // SAFETY: each (row, feature) belongs to one range.
                let y = unsafe { out.slice(row * w.rows + feature..row * w.rows + feature + 1) };
                y[0] = dot(&x[row * w.cols..(row + 1) * w.cols], &weights);
            }
        }
    });
    Ok(())
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    for ((lane, a), b) in lanes.iter_mut().zip(a.remainder()).zip(b.remainder()) {
        *lane = a * b;
    }
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}
