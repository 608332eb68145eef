//! The way back through a linear layer `y = x · wᵀ`.

use super::product::Outer;
use crate::error::{expect_len, product, KernelError};
use crate::matrix::Matrix;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::scratch;
use crate::simd::{self, Op, Simd};
use std::ops::Range;
use std::sync::Mutex;

/// Columns that a task takes at least: whole register tiles.
const TASK_COLUMNS: usize = 64;

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// Summed elements per pass. Part of the numerical definition.
const DEPTH: usize = 128;

/// The gradient of a linear layer's input: `dx[n, w.cols] = dy[n, w.rows] · w`. `dx` is overwritten.
pub fn linear_backward_input(
    precision: Precision,
    dy: &[f32],
    n: usize,
    w: Matrix<'_>,
    dx: &mut [f32],
) -> Result<(), KernelError> {
    let _ = precision;
    w.check()?;
    expect_len("linear output gradient elements", dy.len(), product("linear output gradient", n, w.rows)?)?;
    expect_len("linear input gradient elements", dx.len(), product("linear input gradient", n, w.cols)?)?;
    if w.rows == 0 {
        dx.fill(0.0);
        return Ok(());
    }
    let out = Disjoint::new(dx);
    let failure = Mutex::new(Ok(()));
    parallel::for_each_range(w.cols, column_grain(n, w.rows), |columns| {
        let result = scratch::take("a panel of weights", DEPTH * columns.len())
            .map(|mut panel| simd::run(Input { dy, n, w, columns, panel: &mut panel, dx: out.as_ptr() }));
        note(&failure, result);
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn note(failure: &Mutex<Result<(), KernelError>>, result: Result<(), KernelError>) {
    if result.is_err() {
        *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = result;
    }
}

/// Columns per thread that make enough work.
fn column_grain(rows: usize, depth: usize) -> usize {
    GRAIN.div_ceil(rows.saturating_mul(depth).max(1)).next_multiple_of(TASK_COLUMNS)
}

struct Input<'a> {
    dy: &'a [f32],
    n: usize,
    w: Matrix<'a>,
    columns: Range<usize>,
    panel: &'a mut [f32],
    dx: *mut f32,
}

impl Op for Input<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { dy, n, w, columns, panel, dx } = self;
        let width = columns.len();
        for start in (0..w.rows).step_by(DEPTH) {
            let depth = (w.rows - start).min(DEPTH);
            for (k, row) in panel.chunks_exact_mut(width.max(1)).enumerate().take(depth) {
                w.values.widen((start + k) * w.cols + columns.start, row);
            }
            // SAFETY: lengths were checked; no other task writes these columns.
            unsafe {
                let product = Outer {
                    a: dy.as_ptr().add(start),
                    a_row: w.rows,
                    a_step: 1,
                    b: panel.as_ptr(),
                    b_stride: width,
                    depth,
                    c: dx.add(columns.start),
                    c_stride: w.cols,
                    add: start > 0,
                };
                product.run::<S>(n, width);
            }
        }
    }
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
    let _ = precision;
    expect_len("linear output gradient elements", dy.len(), product("linear output gradient", n, rows)?)?;
    expect_len("linear input elements", x.len(), product("linear input", n, cols)?)?;
    expect_len("weight gradient elements", dw.len(), product("weight gradient", rows, cols)?)?;
    let out = Disjoint::new(dw);
    let failure = Mutex::new(Ok(()));
    parallel::for_each_range(rows, GRAIN.div_ceil(n.saturating_mul(cols).max(1)).next_multiple_of(6), |range| {
        let result = scratch::take("scaled gradients", DEPTH * range.len()).map(|mut scaled| {
            simd::run(Weight { dy, x, n, rows, cols, scale, range, scaled: &mut scaled, dw: out.as_ptr() })
        });
        note(&failure, result);
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Weight<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    n: usize,
    rows: usize,
    cols: usize,
    scale: f32,
    range: Range<usize>,
    scaled: &'a mut [f32],
    dw: *mut f32,
}

impl Op for Weight<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { dy, x, n, rows, cols, scale, range, scaled, dw } = self;
        let height = range.len();
        for start in (0..n).step_by(DEPTH) {
            let depth = (n - start).min(DEPTH);
            for (k, scaled) in scaled.chunks_exact_mut(height.max(1)).enumerate().take(depth) {
                let dy = &dy[(start + k) * rows..][range.clone()];
                for (scaled, dy) in scaled.iter_mut().zip(dy) {
                    *scaled = dy * scale;
                }
            }
            // SAFETY: lengths were checked; no other task writes these rows.
            unsafe {
                let product = Outer {
                    a: scaled.as_ptr(),
                    a_row: 1,
                    a_step: height,
                    b: x.as_ptr().add(start * cols),
                    b_stride: cols,
                    depth,
                    c: dw.add(range.start * cols),
                    c_stride: cols,
                    add: true,
                };
                product.run::<S>(height, cols);
            }
        }
    }
}
