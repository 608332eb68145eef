//! A linear layer `y = x · wᵀ` over the many rows of training, and the way back through it.

use super::product::{self, Lies, Product};
use crate::error::{expect_len, product as size, KernelError};
use crate::linear::linear_with;
use crate::matrix::{Matrix, Values};
use crate::precision::Precision;

/// [`crate::linear_with`] for the many rows of training: the same numbers to float32's accuracy, in less time where a matrix
/// unit cuts both operands anyway. [`Precision::High`] counts as [`Precision::Float32`].
pub fn linear_train(
    precision: Precision,
    x: &[f32],
    n: usize,
    w: Matrix<'_>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    w.check()?;
    expect_len("linear input elements", x.len(), size("linear input", n, w.cols)?)?;
    expect_len("linear output elements", y.len(), size("linear output", n, w.rows)?)?;
    let product = Product {
        a: x,
        lies: Lies::ByRows,
        b: w.values,
        b_transposed: true,
        rows: n,
        columns: w.rows,
        depth: w.cols,
        scale: 1.0,
        add: false,
    };
    if product::transposes(&product) {
        return product::run(precision, &product, y);
    }
    linear_with(precision, x, n, w, y)
}

/// The gradient of a linear layer's input: `dx[n, w.cols] = dy[n, w.rows] · w`. `dx` is overwritten.
pub fn linear_backward_input(
    precision: Precision,
    dy: &[f32],
    n: usize,
    w: Matrix<'_>,
    dx: &mut [f32],
) -> Result<(), KernelError> {
    w.check()?;
    expect_len("linear output gradient elements", dy.len(), size("linear output gradient", n, w.rows)?)?;
    expect_len("linear input gradient elements", dx.len(), size("linear input gradient", n, w.cols)?)?;
    let product = Product {
        a: dy,
        lies: Lies::ByRows,
        b: w.values,
        b_transposed: false,
        rows: n,
        columns: w.cols,
        depth: w.rows,
        scale: 1.0,
        add: false,
    };
    product::run(precision, &product, dx)
}

/// The gradient of a linear layer's weights: `dw[rows, cols] += scale · dyᵀ · x` for `dy [n, rows]` and `x [n, cols]`.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn linear_backward_weight(
    precision: Precision,
    dy: &[f32],
    x: &[f32],
    n: usize,
    rows: usize,
    cols: usize,
    scale: f32,
    dw: &mut [f32],
) -> Result<(), KernelError> {
    weight_gradient(precision, (dy, x), n, (rows, cols), scale, true, dw)
}

/// [`linear_backward_weight`] in place of what `dw` holds.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn linear_backward_weight_anew(
    precision: Precision,
    dy: &[f32],
    x: &[f32],
    n: usize,
    rows: usize,
    cols: usize,
    scale: f32,
    dw: &mut [f32],
) -> Result<(), KernelError> {
    weight_gradient(precision, (dy, x), n, (rows, cols), scale, false, dw)
}

fn weight_gradient(
    precision: Precision,
    (dy, x): (&[f32], &[f32]),
    n: usize,
    (rows, cols): (usize, usize),
    scale: f32,
    add: bool,
    dw: &mut [f32],
) -> Result<(), KernelError> {
    expect_len("linear output gradient elements", dy.len(), size("linear output gradient", n, rows)?)?;
    expect_len("linear input elements", x.len(), size("linear input", n, cols)?)?;
    expect_len("weight gradient elements", dw.len(), size("weight gradient", rows, cols)?)?;
    let product = Product {
        a: dy,
        lies: Lies::ByColumns,
        b: Values::F32(x),
        b_transposed: false,
        rows,
        columns: cols,
        depth: n,
        scale,
        add,
    };
    product::run(precision, &product, dw)
}
