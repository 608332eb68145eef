//! Attention in vectors: scores of a tile as the products of linear layers are made, values with a register tile of its
//! own.
//!
//! One row of 512 queries and keys, 12 heads of 64, one core with AVX-512: 8.9 ms, 90 GFLOP/s. The scores' product sums
//! only 64 elements per output, which makes summing the lanes dear: packing keys by column would save that. Not tried.

use super::{weigh, AttentionRow};
use crate::gemm::{self, Tile};
use crate::simd::{Op, Simd, F32};
use std::ops::Range;

/// Some queries of one head.
pub(super) struct AttentionTile<'a> {
    pub row: &'a AttentionRow<'a>,
    pub head: usize,
    pub head_dim: usize,
    pub width: usize,
    pub queries: Range<usize>,
    /// At least `queries * kv_len`.
    pub scores: &'a mut [f32],
    /// The row's output; this tile writes its own queries and head only.
    pub out: *mut f32,
}

impl Op for AttentionTile<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { row, head, head_dim, width, queries, scores, out } = self;
        let (count, column) = (queries.len(), head * head_dim);
        let keys = row.kv_len;
        if keys == 0 {
            for query in queries {
                // SAFETY: lengths were checked by `attention`; tiles do not overlap.
                unsafe { std::slice::from_raw_parts_mut(out.add(query * width + column), head_dim) }.fill(0.0);
            }
            return;
        }
        let seen = row.visible(queries.end - 1);
        // SAFETY: queries, keys and scores were checked to have these sizes.
        unsafe {
            let tile = Tile {
                x: row.q.as_ptr().add(queries.start * width + column),
                x_stride: width,
                w: row.k.as_ptr().add(column),
                w_stride: width,
                len: head_dim,
                y: scores.as_mut_ptr(),
                y_stride: keys,
                add: false,
                ahead: 0,
            };
            gemm::panel::<S, F32>(tile, count, seen);
        }
        let used = weigh::<S>(row, head, queries.clone(), scores, keys);
        // SAFETY: values and output were checked to have these sizes; tiles write different parts of the output.
        unsafe {
            let sum = Weighted {
                p: scores.as_ptr(),
                p_stride: keys,
                v: row.v.as_ptr().add(column),
                v_stride: width,
                keys: used,
                out: out.add(queries.start * width + column),
                out_stride: width,
            };
            sum.rows::<S>(count, head_dim);
        }
    }
}

/// `out[i] = Σ_j p[i, j] · v[j]`
#[derive(Clone, Copy)]
struct Weighted {
    p: *const f32,
    p_stride: usize,
    v: *const f32,
    v_stride: usize,
    keys: usize,
    out: *mut f32,
    out_stride: usize,
}

// SAFETY (all): pointers are valid for the rows and columns named.
impl Weighted {
    #[inline(always)]
    unsafe fn rows<S: Simd>(self, count: usize, columns: usize) {
        let mut row = 0;
        while row < count {
            let height = (count - row).min(S::TILE_ROWS);
            unsafe {
                let part =
                    Self { p: self.p.add(row * self.p_stride), out: self.out.add(row * self.out_stride), ..self };
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
                let part = Self { v: self.v.add(column), out: self.out.add(column), ..self };
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
            for j in 0..self.keys {
                let mut p = [S::splat(0.0); ROWS];
                for r in 0..ROWS {
                    p[r] = S::splat(*self.p.add(r * self.p_stride + j));
                }
                let v = self.v.add(j * self.v_stride);
                for c in 0..VECTORS {
                    let v = if whole { S::load(v.add(c * S::N)) } else { S::load_first(v, width) };
                    for r in 0..ROWS {
                        sums[r][c] = S::fma(p[r], v, sums[r][c]);
                    }
                }
            }
            for r in 0..ROWS {
                let out = self.out.add(r * self.out_stride);
                for c in 0..VECTORS {
                    if whole {
                        S::store(out.add(c * S::N), sums[r][c]);
                    } else {
                        S::store_first(out, sums[r][c], width);
                    }
                }
            }
        }
    }
}
