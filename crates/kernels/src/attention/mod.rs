//! T5's attention: unscaled scores plus relative bias, softmax, values; one pass, no score matrix.
//!
//! Work is cut in tiles of a few queries of one head. A tile's scores stay in cache from the first product to the second.

#[cfg(any(test, target_arch = "wasm32"))]
mod packed;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod vectors;

use crate::error::{expect_len, product, KernelError};
#[cfg(target_arch = "x86_64")]
use crate::isa::{self, Isa};
use crate::norm::exp_minus_max;
use crate::parallel::{self, Disjoint, Failure};
use crate::precision::Precision;
use crate::scratch;
use crate::simd::{self, Simd};
use std::ops::Range;
use vectors::AttentionTile;

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
    pub(crate) fn check(&self, heads: usize, width: usize) -> Result<(), KernelError> {
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
    pub(crate) fn visible(&self, i: usize) -> usize {
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
    attention_with(Precision::Float32, rows, heads, head_dim, out)
}

/// [`attention`] with the given precision.
pub fn attention_with(
    precision: Precision,
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    out: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
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
    #[cfg(target_arch = "x86_64")]
    if isa::active() == Isa::Amx && rows.iter().all(|row| tiles::suits(row, head_dim)) {
        return tiles::attention(precision, rows, heads, head_dim, &out);
    }
    #[cfg(target_arch = "wasm32")]
    if rows.iter().all(|row| packed::suits(row, head_dim)) {
        return simd::run(packed::Packed { rows, heads, head_dim, out: &out });
    }
    in_vectors(rows, heads, head_dim, &out)
}

/// [`attention`] in vectors; everything has been checked.
fn in_vectors(
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    out: &[Disjoint<'_>],
) -> Result<(), KernelError> {
    let width = heads * head_dim;
    // Tiles before each row, to find a tile by its number.
    let mut before = Vec::with_capacity(rows.len());
    let (mut tiles, mut work) = (0, 1);
    for row in rows {
        before.push(tiles);
        tiles += heads * row.q_len.div_ceil(tile_queries(row));
        work = work.max(row.kv_len.saturating_mul(head_dim).saturating_mul(tile_queries(row).min(row.q_len)));
    }
    let scores = rows.iter().map(|row| tile_queries(row) * row.kv_len).max().unwrap_or(0);
    let failure = Failure::default();
    parallel::for_each_range(tiles, GRAIN.div_ceil(work), |range| {
        failure.note(scratch::take("attention scores", scores).map(|mut scores| {
            for tile in range {
                let index = before.partition_point(|&before| before <= tile) - 1;
                let (row, tile) = (&rows[index], tile - before[index]);
                let (head, first) = (tile % heads, tile / heads * tile_queries(row));
                let queries = first..(first + tile_queries(row)).min(row.q_len);
                let (scores, out) = (&mut scores[..], out[index].as_ptr());
                simd::run(AttentionTile { row, head, head_dim, width, queries, scores, out });
            }
        }));
    });
    failure.into_result()
}

/// Turns the scores of `queries` of a head, `stride` apart, into weights: bias, mask and causality, then softmax. Keys
/// that a query does not see get 0. Returns the number of leading keys outside of which all weights are 0.
#[inline(always)]
fn weigh<S: Simd>(
    row: &AttentionRow<'_>,
    head: usize,
    queries: Range<usize>,
    scores: &mut [f32],
    stride: usize,
) -> usize {
    let keys = row.kv_len;
    let first_allowed = row.mask.map_or(0, |mask| mask.iter().position(|&m| m != 0).unwrap_or(keys));
    let mut used = 0;
    for (query, scores) in queries.zip(scores.chunks_exact_mut(stride)) {
        let visible = row.visible(query);
        let (now, later) = scores.split_at_mut(visible);
        if first_allowed >= visible {
            let all = keys - visible;
            now.fill(1.0 / keys as f32);
            later[..all].fill(1.0 / keys as f32);
            later[all..].fill(0.0);
            used = keys;
            continue;
        }
        used = used.max(visible);
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
    used
}

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// Scores that a tile keeps; they share the L2 cache with keys and values.
const TILE_SCORES: usize = 24 * 1024;

/// Queries per tile: a multiple of what register tiles take, fewer for many keys.
fn tile_queries(row: &AttentionRow<'_>) -> usize {
    (TILE_SCORES / row.kv_len.max(1) / 6 * 6).clamp(6, 48)
}
