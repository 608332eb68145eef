//! T5's attention: unscaled scores plus relative bias, softmax, values; one pass, no score matrix.
//!
//! Work is cut in tiles of a few queries of one head. A tile's scores stay in cache from the first product to the second.

use crate::error::{expect_len, product, KernelError};
use crate::gemm::{self, Tile};
use crate::norm::exp_minus_max;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{self, Op, Simd, F32};
use std::ops::Range;

/// One row of a batch. Queries, keys and values are token-major `[len, heads * head_dim]`, as projections produce them.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub q_len: usize,
    pub kv_len: usize,
    /// `[kv_len]`, 0 for keys that are masked.
    pub mask: Option<&'a [u8]>,
    /// `Some(past)`: query `i` sees key `j` only if `j <= i + past`.
    pub causal_offset: Option<usize>,
    pub bias: Option<RelativeBias<'a>>,
}

/// Bias by distance: `bias(head, i, j) = values[head * span + zero + j - (q_start + i)]`.
#[derive(Debug, Clone, Copy)]
pub struct RelativeBias<'a> {
    /// `[heads, span]`
    pub values: &'a [f32],
    /// Number of distances kept per head.
    pub span: usize,
    /// Where in the span distance 0 stands.
    pub zero: usize,
    /// Position of the first query.
    pub q_start: usize,
}

impl RelativeBias<'_> {
    /// Fails unless every pair of query and visible key has its distance in the span.
    fn check(&self, row: &AttentionRow<'_>, heads: usize) -> Result<(), KernelError> {
        expect_len("relative bias elements", self.values.len(), product("relative bias", heads, self.span)?)?;
        if row.q_len == 0 || row.kv_len == 0 {
            return Ok(());
        }
        let last_query =
            self.q_start.checked_add(row.q_len - 1).ok_or(KernelError::TooLarge { what: "query position" })?;
        if last_query > self.zero {
            return Err(KernelError::Shape {
                what: "relative bias distances before 0",
                expected: last_query,
                found: self.zero,
            });
        }
        let last_key = match row.causal_offset {
            Some(past) => past.saturating_add(row.q_len - 1).min(row.kv_len - 1),
            None => row.kv_len - 1,
        };
        // The largest distance is that of the first query that sees the last key.
        let first_query = row.causal_offset.map_or(0, |past| last_key.saturating_sub(past));
        let past_zero = last_key.saturating_sub(self.q_start.saturating_add(first_query));
        if past_zero >= self.span.saturating_sub(self.zero) {
            return Err(KernelError::Shape {
                what: "relative bias distances from 0 up",
                expected: past_zero + 1,
                found: self.span.saturating_sub(self.zero),
            });
        }
        Ok(())
    }
}

impl<'a> AttentionRow<'a> {
    fn check(&self, heads: usize, width: usize) -> Result<(), KernelError> {
        expect_len("query elements", self.q.len(), product("queries", self.q_len, width)?)?;
        expect_len("key elements", self.k.len(), product("keys", self.kv_len, width)?)?;
        expect_len("value elements", self.v.len(), product("values", self.kv_len, width)?)?;
        if let Some(mask) = self.mask {
            expect_len("attention mask elements", mask.len(), self.kv_len)?;
        }
        match &self.bias {
            Some(bias) => bias.check(self, heads),
            None => Ok(()),
        }
    }

    /// Number of leading keys that causality lets query `i` see.
    fn visible(&self, i: usize) -> usize {
        match self.causal_offset {
            Some(past) => past.saturating_add(i).saturating_add(1).min(self.kv_len),
            None => self.kv_len,
        }
    }
}

/// `out = softmax(q · kᵀ + bias) · v` per head, without a `1/√d` scale, for each row of a batch; `out` has `[q_len,
/// heads * head_dim]` per row.
///
/// A query that may see no key at all weighs every key alike, as in the reference, which adds the lowest float
/// everywhere. A row without keys gives zeros.
pub fn attention(
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    out: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let width = product("heads * head_dim", heads, head_dim)?;
    expect_len("attention output rows", out.len(), rows.len())?;
    for (row, out) in rows.iter().zip(out.iter()) {
        row.check(heads, width)?;
        expect_len("attention output elements", out.len(), row.q.len())?;
    }
    if width == 0 {
        return Ok(());
    }
    let out: Vec<Disjoint<'_>> = out.iter_mut().map(|out| Disjoint::new(out)).collect();
    // Tiles before each row, to find a tile by its number.
    let mut before = Vec::with_capacity(rows.len());
    let (mut tiles, mut work) = (0, 1);
    for row in rows {
        before.push(tiles);
        tiles += heads * row.q_len.div_ceil(tile_queries(row));
        work = work.max(row.kv_len.saturating_mul(head_dim).saturating_mul(tile_queries(row).min(row.q_len)));
    }
    let scores = rows.iter().map(|row| tile_queries(row) * row.kv_len).max().unwrap_or(0);
    let failed = std::sync::Mutex::new(None);
    parallel::for_each_range(tiles, GRAIN.div_ceil(work), |range| {
        let mut scores = match scratch::take("attention scores", scores) {
            Ok(scores) => scores,
            Err(error) => {
                *failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                return;
            }
        };
        for tile in range {
            let index = before.partition_point(|&before| before <= tile) - 1;
            let (row, tile) = (&rows[index], tile - before[index]);
            let (head, first) = (tile % heads, tile / heads * tile_queries(row));
            let queries = first..(first + tile_queries(row)).min(row.q_len);
            let (scores, out) = (&mut scores[..], out[index].as_ptr());
            simd::run(AttentionTile { row, head, head_dim, width, queries, scores, out });
        }
    });
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// Scores that a tile keeps; they share the L2 cache with keys and values.
const TILE_SCORES: usize = 24 * 1024;

/// Queries per tile: a multiple of what register tiles take, fewer for many keys.
fn tile_queries(row: &AttentionRow<'_>) -> usize {
    (TILE_SCORES / row.kv_len.max(1) / 6 * 6).clamp(6, 48)
}

/// Some queries of one head.
struct AttentionTile<'a> {
    row: &'a AttentionRow<'a>,
    head: usize,
    head_dim: usize,
    width: usize,
    queries: Range<usize>,
    /// At least `queries * kv_len`.
    scores: &'a mut [f32],
    /// The row's output; this tile writes its own queries and head only.
    out: *mut f32,
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
            };
            gemm::panel::<S, F32>(tile, count, seen);
        }
        let first_allowed = row.mask.map_or(0, |mask| mask.iter().position(|&m| m != 0).unwrap_or(keys));
        let mut used = seen;
        for (i, scores) in scores.chunks_exact_mut(keys).take(count).enumerate() {
            let query = queries.start + i;
            let visible = row.visible(query);
            let (now, later) = scores.split_at_mut(visible);
            if first_allowed >= visible {
                now.fill(1.0 / keys as f32);
                later.fill(1.0 / keys as f32);
                used = keys;
                continue;
            }
            if let Some(bias) = &row.bias {
                let start = head * bias.span + bias.zero - (bias.q_start + query);
                for (score, bias) in now.iter_mut().zip(&bias.values[start..start + visible]) {
                    *score += bias;
                }
            }
            if let Some(mask) = row.mask {
                for (score, &mask) in now.iter_mut().zip(mask) {
                    *score = if mask == 0 { f32::NEG_INFINITY } else { *score };
                }
            }
            let scale = 1.0 / exp_minus_max::<S>(now);
            for p in now {
                *p *= scale;
            }
            later.fill(0.0);
        }
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
