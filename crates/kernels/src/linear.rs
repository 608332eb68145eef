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
    products(precision, x, n, &[w], y)
}

/// `y[i] = x · ws[i]ᵀ` for weights of one shape and type, as queries, keys and values are: the inputs are made ready once,
/// and there is one parallel region. `y` holds the results one after another, `[ws.len(), n, rows]`.
pub fn linear_together(
    precision: Precision,
    x: &[f32],
    n: usize,
    ws: &[Matrix<'_>],
    y: &mut [f32],
) -> Result<(), KernelError> {
    let Some(first) = ws.first() else { return expect_len("linear output elements", y.len(), 0) };
    let (rows, cols) = (first.rows, first.cols);
    for w in ws {
        w.check()?;
        expect_len("rows of a weight", w.rows, rows)?;
        expect_len("columns of a weight", w.cols, cols)?;
    }
    let each = product("linear output", n, rows)?;
    expect_len("linear input elements", x.len(), product("linear input", n, cols)?)?;
    expect_len("linear output elements", y.len(), product("linear outputs", each, ws.len())?)?;
    if ws.iter().any(|w| std::mem::discriminant(&w.values) != std::mem::discriminant(&first.values)) {
        for (w, y) in ws.iter().zip(y.chunks_exact_mut(each.max(1))) {
            linear_with(precision, x, n, *w, y)?;
        }
        return Ok(());
    }
    products(precision, x, n, ws, y)
}

/// [`linear_together`] with shapes that have been checked and weights that are alike.
fn products(precision: Precision, x: &[f32], n: usize, ws: &[Matrix<'_>], y: &mut [f32]) -> Result<(), KernelError> {
    let Some(&first) = ws.first() else { return Ok(()) };
    let Matrix { rows, cols, .. } = first;
    let rows_per_task = gemm::rows_per_task(n, &first);
    let part = |index: usize| index * rows_per_task..((index + 1) * rows_per_task).min(n);
    let parts = n.div_ceil(rows_per_task);
    let inputs = gemm::prepare(precision, x, cols, (0..parts).map(|index| (part(index), first)))?;
    let out = Disjoint::new(y);
    parallel::for_each_part_and_range(parts, rows * ws.len(), feature_grain(rows_per_task, cols), |index, range| {
        let taken = part(index);
        for (which, w) in ws.iter().enumerate() {
            let features = range.start.max(which * rows)..range.end.min((which + 1) * rows);
            if features.is_empty() {
                continue;
            }
            let features = features.start - which * rows..features.end - which * rows;
            let y = out.as_ptr().wrapping_add((which * n + taken.start) * rows);
            let (x, n) = (&x[taken.start * cols..taken.end * cols], taken.len());
            // SAFETY: the lengths have been checked, and no two tasks share rows and a feature of a matrix.
            unsafe {
                gemm::product(Block { x, x_stride: cols, n, w: *w, y, y_stride: rows }, &inputs, index, features)
            };
        }
    });
    Ok(())
}

/// Features per thread that make enough work.
pub(crate) fn feature_grain(n: usize, cols: usize) -> usize {
    let work = cols.saturating_mul(n).max(1);
    GRAIN.div_ceil(work).next_multiple_of(gemm::TASK_FEATURES)
}
