//! The products in vectors: register tiles of up to 6 rows by 4 vectors, for which the left operand is broadcast.
//!
//! Right operands are copied, 4 vectors wide, to where a tile reads them one after another, and stay in the L1 cache while
//! the left operand goes by. A left operand that lies by columns is copied in strips of a tile's rows.

use super::{in_panels, Lies, Panel, Product};
use crate::error::KernelError;
use crate::matrix::Values;
use crate::parallel::Disjoint;
use crate::scratch;
use crate::simd::{self, Op, Simd};

/// Summed elements per pass; 64 columns of them take 32 KiB. Part of the numerical definition.
const DEPTH: usize = 128;

/// Rows (or columns) of a task at most, so that its strips stay in the L2 cache.
const MAX_PANEL: usize = 1536;

/// [`super::run`] in vectors.
pub(super) fn run(product: &Product<'_>, c: &mut [f32]) -> Result<(), KernelError> {
    let Product { rows, columns, depth, .. } = *product;
    let c = &Disjoint::new(c);
    if rows >= columns {
        in_panels(rows, 6, MAX_PANEL, columns.saturating_mul(depth), |rows| {
            panel(product, &Panel { rows, columns: 0..columns, c })
        })
    } else {
        in_panels(columns, 64, MAX_PANEL, rows.saturating_mul(depth), |columns| {
            panel(product, &Panel { rows: 0..rows, columns, c })
        })
    }
}

fn panel(product: &Product<'_>, panel: &Panel<'_>) -> Result<(), KernelError> {
    let copied_a = if product.lies == Lies::ByColumns || product.scale != 1.0 {
        (panel.rows.len().next_multiple_of(6)).saturating_mul(DEPTH)
    } else {
        0
    };
    let mut a = scratch::take("a panel of the left operand", copied_a)?;
    let mut b = scratch::take("a panel of the right operand", DEPTH * MAX_WIDTH)?;
    simd::run(Compute { product, panel, a: &mut a, b: &mut b });
    Ok(())
}

/// Columns of the widest vectors' tile.
const MAX_WIDTH: usize = 64;

struct Compute<'a> {
    product: &'a Product<'a>,
    panel: &'a Panel<'a>,
    a: &'a mut [f32],
    b: &'a mut [f32],
}

impl Op for Compute<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { product, panel, a, b } = self;
        let (width, height) = (4 * S::N, S::TILE_ROWS);
        let Product { columns: stride, depth, .. } = *product;
        for start in (0..depth).step_by(DEPTH) {
            let len = (depth - start).min(DEPTH);
            if !a.is_empty() {
                copy_strips(product, panel, start, len, height, a);
            }
            for column in panel.columns.clone().step_by(width) {
                let width = (panel.columns.end - column).min(width);
                for (k, to) in b.chunks_exact_mut(width).enumerate().take(len) {
                    let from = (start + k) * stride + column;
                    match product.b {
                        Values::F32(b) => to.copy_from_slice(&b[from..from + width]),
                        b => b.widen(from, to),
                    }
                }
                for row in panel.rows.clone().step_by(height) {
                    let (a, a_row, a_step) = if a.is_empty() {
                        (product.a[row * depth + start..].as_ptr(), depth, 1)
                    } else {
                        (a[(row - panel.rows.start) * len..].as_ptr(), 1, height)
                    };
                    // SAFETY: lengths were checked; no other task writes this panel.
                    unsafe {
                        let strip = Outer {
                            a,
                            a_row,
                            a_step,
                            b: b.as_ptr(),
                            b_stride: width,
                            depth: len,
                            c: panel.c.as_ptr().add(row * stride + column),
                            c_stride: stride,
                            add: product.add || start > 0,
                        };
                        outer(strip, (panel.rows.end - row).min(height), width);
                    }
                }
            }
        }
    }
}

/// Copies the panel's rows of the left operand, times the scale, in strips of `height` rows: element `(i, k)` of a strip is
/// at `k * height + i`.
#[inline(always)]
fn copy_strips(product: &Product<'_>, panel: &Panel<'_>, start: usize, len: usize, height: usize, to: &mut [f32]) {
    for (strip, to) in to.chunks_exact_mut(len * height).enumerate().take(panel.rows.len().div_ceil(height)) {
        let first = panel.rows.start + strip * height;
        let rows = (panel.rows.end - first).min(height);
        for (k, to) in to.chunks_exact_mut(height).enumerate() {
            for (i, to) in to.iter_mut().enumerate().take(rows) {
                let place = match product.lies {
                    Lies::ByRows => (first + i) * product.depth + start + k,
                    Lies::ByColumns => (start + k) * product.rows + first + i,
                };
                *to = product.a[place] * product.scale;
            }
        }
    }
}

/// Where the operands of a small product lie.
#[derive(Clone, Copy)]
pub(in crate::training) struct Outer {
    /// Element `(i, k)` is at `i * a_row + k * a_step`.
    pub a: *const f32,
    pub a_row: usize,
    pub a_step: usize,
    /// Element `[k, j]` is at `k * b_stride + j`.
    pub b: *const f32,
    pub b_stride: usize,
    /// Length of the summed dimension.
    pub depth: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Whether the product is added to what `c` holds.
    pub add: bool,
}

/// A small product of `rows` by `columns`, on the calling thread.
///
/// # Safety
/// Operands are valid for `rows`, `columns` and the depth; nothing else touches `c` meanwhile.
pub(in crate::training) unsafe fn outer(product: Outer, rows: usize, columns: usize) {
    struct Run(Outer, usize, usize);
    impl Op for Run {
        type Out = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            // SAFETY: the caller's promises.
            unsafe { self.0.rows::<S>(self.1, self.2) };
        }
    }
    simd::run(Run(product, rows, columns));
}

/// Where the operands of small dot products lie: `y[i, j] = x[i] · w[j]`.
#[derive(Clone, Copy)]
pub(in crate::training) struct Dots {
    pub x: *const f32,
    pub x_stride: usize,
    pub w: *const f32,
    pub w_stride: usize,
    /// Length of the summed dimension.
    pub len: usize,
    pub y: *mut f32,
    pub y_stride: usize,
}

/// The dot products of `rows` rows and `columns` rows, on the calling thread.
///
/// # Safety
/// Operands are valid for `len` elements in each of those rows; nothing else touches `y` meanwhile.
pub(in crate::training) unsafe fn dots(dots: Dots, rows: usize, columns: usize) {
    struct Run(Dots, usize, usize);
    impl Op for Run {
        type Out = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            // SAFETY: the caller's promises.
            unsafe { self.0.rows::<S>(self.1, self.2) };
        }
    }
    simd::run(Run(dots, rows, columns));
}

// SAFETY (all): pointers are valid for the rows and columns named.
impl Dots {
    #[inline(always)]
    unsafe fn rows<S: Simd>(self, rows: usize, columns: usize) {
        let mut row = 0;
        while row < rows {
            let height = (rows - row).min(S::TILE_ROWS);
            unsafe {
                let part = Self { x: self.x.add(row * self.x_stride), y: self.y.add(row * self.y_stride), ..self };
                match height {
                    1 => part.columns::<S, 1>(columns),
                    2 => part.columns::<S, 2>(columns),
                    3 => part.columns::<S, 3>(columns),
                    4 => part.columns::<S, 4>(columns),
                    5 => part.columns::<S, 5>(columns),
                    _ => part.columns::<S, 6>(columns),
                }
            }
            row += height;
        }
    }

    /// Four columns at a time; where fewer are left the last one fills up the four.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // Counted loops are what unrolls into registers.
    unsafe fn columns<S: Simd, const ROWS: usize>(self, columns: usize) {
        if ROWS > S::TILE_ROWS {
            return; // Never called; keeps tiles that would not fit in registers out of the build.
        }
        for column in (0..columns).step_by(4) {
            let count = (columns - column).min(4);
            unsafe {
                let mut ws = [self.w; 4];
                for c in 0..4 {
                    ws[c] = self.w.add((column + c.min(count - 1)) * self.w_stride);
                }
                let mut sums = [[S::splat(0.0); 4]; ROWS];
                let mut k = 0;
                while k < self.len {
                    let left = self.len - k;
                    let load = |from: *const f32| if left >= S::N { S::load(from) } else { S::load_first(from, left) };
                    let mut x = [S::splat(0.0); ROWS];
                    for r in 0..ROWS {
                        x[r] = load(self.x.add(r * self.x_stride + k));
                    }
                    for c in 0..4 {
                        let w = load(ws[c].add(k));
                        for r in 0..ROWS {
                            sums[r][c] = S::fma(x[r], w, sums[r][c]);
                        }
                    }
                    k += S::N;
                }
                for r in 0..ROWS {
                    let row = S::sum4(sums[r]);
                    let y = self.y.add(r * self.y_stride + column);
                    if count == 4 {
                        y.cast::<[f32; 4]>().write_unaligned(row);
                    } else {
                        for c in 0..count {
                            *y.add(c) = row[c];
                        }
                    }
                }
            }
        }
    }
}

// SAFETY (all): pointers are valid for the rows, columns and depth named.
impl Outer {
    #[inline(always)]
    unsafe fn rows<S: Simd>(self, rows: usize, columns: usize) {
        let mut row = 0;
        while row < rows {
            let height = (rows - row).min(S::TILE_ROWS);
            unsafe {
                let part = Self { a: self.a.add(row * self.a_row), c: self.c.add(row * self.c_stride), ..self };
                match height {
                    1 => part.columns::<S, 1>(columns),
                    2 => part.columns::<S, 2>(columns),
                    3 => part.columns::<S, 3>(columns),
                    4 => part.columns::<S, 4>(columns),
                    5 => part.columns::<S, 5>(columns),
                    _ => part.columns::<S, 6>(columns),
                }
            }
            row += height;
        }
    }

    #[inline(always)]
    unsafe fn columns<S: Simd, const ROWS: usize>(self, columns: usize) {
        if ROWS > S::TILE_ROWS {
            return; // Never called; keeps tiles that would not fit in registers out of the build.
        }
        let mut column = 0;
        while column < columns {
            let left = columns - column;
            unsafe {
                let part = Self { b: self.b.add(column), c: self.c.add(column), ..self };
                column += if left >= 4 * S::N {
                    part.tile::<S, ROWS, 4>(4 * S::N)
                } else if left >= 2 * S::N {
                    part.tile::<S, ROWS, 2>(2 * S::N)
                } else {
                    part.tile::<S, ROWS, 1>(left.min(S::N))
                };
            }
        }
    }

    /// `width` columns, in `VECTORS` vectors; returns `width`.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // Counted loops are what unrolls into registers.
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(self, width: usize) -> usize {
        unsafe {
            let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
            let whole = width == VECTORS * S::N;
            for k in 0..self.depth {
                let mut a = [S::splat(0.0); ROWS];
                for r in 0..ROWS {
                    a[r] = S::splat(*self.a.add(r * self.a_row + k * self.a_step));
                }
                let b = self.b.add(k * self.b_stride);
                for v in 0..VECTORS {
                    let b = if whole { S::load(b.add(v * S::N)) } else { S::load_first(b, width) };
                    for r in 0..ROWS {
                        sums[r][v] = S::fma(a[r], b, sums[r][v]);
                    }
                }
            }
            let one = S::splat(1.0);
            for r in 0..ROWS {
                let c = self.c.add(r * self.c_stride);
                for v in 0..VECTORS {
                    let c = c.add(v * S::N);
                    let mut sum = sums[r][v];
                    if self.add {
                        sum = S::fma(one, if whole { S::load(c) } else { S::load_first(c, width) }, sum);
                    }
                    if whole {
                        S::store(c, sum);
                    } else {
                        S::store_first(c, sum, width);
                    }
                }
            }
        }
        width
    }
}
