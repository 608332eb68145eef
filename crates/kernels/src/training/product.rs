//! Products whose right operand is read along its rows: `c[i, j] (+)= Σ_k a(i, k) · b[k, j]`, in vectors.
//!
//! The left operand is read element by element at any stride, so that a transposed one needs no copy.

use crate::simd::Simd;

/// Where the operands of a product lie.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
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

// SAFETY (all): pointers are valid for the rows, columns and depth named.
impl Outer {
    /// # Safety
    /// Operands are valid for `rows`, `columns` and `depth`; nothing else touches `c` meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(self, rows: usize, columns: usize) {
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
                if left >= 4 * S::N {
                    part.tile::<S, ROWS, 4>(4 * S::N);
                    column += 4 * S::N;
                } else {
                    part.tile::<S, ROWS, 1>(left.min(S::N));
                    column += S::N;
                }
            }
        }
    }

    /// `width` columns, in `VECTORS` vectors.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // Counted loops are what unrolls into registers.
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(self, width: usize) {
        unsafe {
            let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
            let whole = width == VECTORS * S::N;
            if self.add {
                for r in 0..ROWS {
                    let c = self.c.add(r * self.c_stride);
                    for v in 0..VECTORS {
                        sums[r][v] = if whole { S::load(c.add(v * S::N)) } else { S::load_first(c, width) };
                    }
                }
            }
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
            for r in 0..ROWS {
                let c = self.c.add(r * self.c_stride);
                for v in 0..VECTORS {
                    if whole {
                        S::store(c.add(v * S::N), sums[r][v]);
                    } else {
                        S::store_first(c, sums[r][v], width);
                    }
                }
            }
        }
    }
}
