//! Attention of many queries for instruction sets with few registers, WebAssembly above all.
//!
//! Of one head, keys and values are copied once so that 8 of them (or of the values' columns) lie side by side. Scores and
//! weighted values are then the same product: one number of each of 4 rows, spread over a vector, times 8 numbers. No lanes
//! are summed, and nothing is read across the rows of the projections, which are far apart and share few cache sets.
//!
//! 12 heads of 64, one thread of SIMD128 in V8, GFLOP/s for 128 and 512 queries: 27 and 25 by `vectors.rs`, 33 and 33 here.

use super::{weigh, AttentionRow, Failure};
use crate::error::KernelError;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{Op, Simd};
use std::ops::Range;

/// Rows and columns of a register tile.
const ROWS: usize = 4;
const SIDE: usize = 8;

/// Queries whose scores are kept at a time.
const QUERIES: usize = 32;
/// Fewer queries than this are not worth the copies.
const MIN_QUERIES: usize = 16;
/// More keys than this would push a tile's scores out of the cache.
const MAX_KEYS: usize = 8192;

/// Whether a row's shape fits the tiles.
pub(super) fn suits(row: &AttentionRow<'_>, head_dim: usize) -> bool {
    row.q_len >= MIN_QUERIES && (1..=MAX_KEYS).contains(&row.kv_len) && head_dim.is_multiple_of(SIDE)
}

/// [`super::attention`] for rows that all suit; everything has been checked.
pub(super) struct Packed<'a> {
    pub rows: &'a [AttentionRow<'a>],
    pub heads: usize,
    pub head_dim: usize,
    pub out: &'a [Disjoint<'a>],
}

impl Op for Packed<'_> {
    type Out = Result<(), KernelError>;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Self::Out {
        let Self { rows, heads, head_dim, out } = self;
        // A head's queries are cut only as far as it takes to occupy the threads: each cut copies the keys again.
        let cuts = (2 * parallel::threads()).div_ceil((rows.len() * heads).max(1));
        let failure = Failure::default();
        parallel::for_each_task(rows.len() * heads * cuts, |task| {
            let (index, head, cut) = (task / cuts / heads, task / cuts % heads, task % cuts);
            let row = &rows[index];
            let size = row.q_len.div_ceil(cuts).next_multiple_of(QUERIES);
            let queries = (cut * size).min(row.q_len)..((cut + 1) * size).min(row.q_len);
            if !queries.is_empty() {
                let head = Head { row, head, head_dim, width: heads * head_dim };
                // SAFETY: shapes were checked; tasks write different queries or heads.
                failure.note(unsafe { head.attend::<S>(queries, out[index].as_ptr()) });
            }
        });
        failure.into_result()
    }
}

#[derive(Clone, Copy)]
struct Head<'a> {
    row: &'a AttentionRow<'a>,
    head: usize,
    head_dim: usize,
    width: usize,
}

impl Head<'_> {
    /// # Safety
    /// The row's shapes have been checked, and nothing else touches this head's output of these queries.
    #[inline(always)]
    unsafe fn attend<S: Simd>(self, queries: Range<usize>, out: *mut f32) -> Result<(), KernelError> {
        let Self { row, head, head_dim, width } = self;
        let (keys, column) = (row.kv_len, head * head_dim);
        let stride = keys.next_multiple_of(SIDE);
        let mut k = scratch::take("copied keys", stride * head_dim)?;
        let mut v = scratch::take("copied values", stride * head_dim)?;
        let mut scores = scratch::take("attention scores", QUERIES * stride)?;
        // SAFETY: keys and values have these rows and columns, the copies this room.
        unsafe {
            spread_keys(row.k.as_ptr().add(column), width, keys, head_dim, &mut k);
            for (part, to) in v.chunks_exact_mut(stride * SIDE).enumerate() {
                let from = row.v.as_ptr().add(column + part * SIDE);
                for (key, to) in to.chunks_exact_mut(SIDE).enumerate() {
                    match key < keys {
                        true => to.copy_from_slice(std::slice::from_raw_parts(from.add(key * width), SIDE)),
                        false => to.fill(0.0),
                    }
                }
            }
        }
        let mut first = queries.start;
        while first < queries.end {
            let some = first..(first + QUERIES).min(queries.end);
            let seen = row.visible(some.end - 1).div_ceil(SIDE);
            // SAFETY: queries, scores and output have these rows and columns.
            unsafe {
                let q = row.q.as_ptr().add(first * width + column);
                for block in 0..seen {
                    let k = k.as_ptr().add(block * head_dim * SIDE);
                    let to = scores.as_mut_ptr().add(block * SIDE);
                    product::<S>(q, width, some.len(), k, head_dim, to, stride);
                }
                let used = weigh::<S>(row, head, some.clone(), &mut scores, stride);
                for part in 0..head_dim / SIDE {
                    let v = v.as_ptr().add(part * stride * SIDE);
                    let to = out.add(first * width + column + part * SIDE);
                    product::<S>(scores.as_ptr(), stride, some.len(), v, used, to, width);
                }
            }
            first += QUERIES;
        }
        Ok(())
    }
}

/// For each `SIDE` keys, for each of their elements, that element of each. Keys that are missing are 0.
///
/// # Safety
/// `from` is valid for `keys` rows of `head_dim` elements, `width` apart.
unsafe fn spread_keys(from: *const f32, width: usize, keys: usize, head_dim: usize, to: &mut [f32]) {
    for (block, to) in to.chunks_exact_mut(head_dim * SIDE).enumerate() {
        for side in 0..SIDE {
            let key = block * SIDE + side;
            for (i, to) in to.chunks_exact_mut(SIDE).enumerate() {
                // SAFETY: the caller's promise.
                to[side] = if key < keys { unsafe { *from.add(key * width + i) } } else { 0.0 };
            }
        }
    }
}

/// `y[row, 0..SIDE] = Σ_i a[row, i] · b[i, 0..SIDE]` over `len` elements, for `rows` rows of `a` and `y`.
#[inline(always)]
unsafe fn product<S: Simd>(
    a: *const f32,
    a_stride: usize,
    rows: usize,
    b: *const f32,
    len: usize,
    y: *mut f32,
    y_stride: usize,
) {
    for row in (0..rows).step_by(ROWS) {
        // Rows that are missing are the first one again, and come to nothing.
        let at = |i: usize| if row + i < rows { row + i } else { row };
        // SAFETY: the caller's operands have these rows.
        unsafe {
            let mut sums = [[0.0; SIDE]; ROWS];
            tile::<S>(&[0, 1, 2, 3].map(|i| a.wrapping_add(at(i) * a_stride)), b, len, &mut sums);
            for (i, sums) in sums.iter().enumerate().take(rows - row) {
                std::ptr::copy_nonoverlapping(sums.as_ptr(), y.add((row + i) * y_stride), SIDE);
            }
        }
    }
}

/// A function of its own: within a large one V8 spills what the loop needs.
#[inline(never)]
unsafe fn tile<S: Simd>(a: &[*const f32; ROWS], mut b: *const f32, len: usize, y: &mut [[f32; SIDE]; ROWS]) {
    const { assert!(ROWS == 4) };
    // SAFETY: operands have `len` elements per row.
    unsafe {
        let [mut a0, mut a1, mut a2, mut a3] = *a;
        let vectors = SIDE / S::N;
        if vectors == 2 {
            let mut sums = [[S::splat(0.0); 2]; ROWS];
            let end = b.wrapping_add(len * SIDE);
            while b < end {
                let (low, high) = (S::load(b), S::load(b.add(S::N)));
                let rows = [S::splat(*a0), S::splat(*a1), S::splat(*a2), S::splat(*a3)];
                for i in 0..ROWS {
                    sums[i][0] = S::fma(rows[i], low, sums[i][0]);
                    sums[i][1] = S::fma(rows[i], high, sums[i][1]);
                }
                (a0, a1, a2, a3) = (a0.add(1), a1.add(1), a2.add(1), a3.add(1));
                b = b.add(SIDE);
            }
            for (y, sums) in y.iter_mut().zip(sums) {
                S::store(y.as_mut_ptr(), sums[0]);
                S::store(y.as_mut_ptr().add(S::N), sums[1]);
            }
        } else {
            let rows = [a0, a1, a2, a3];
            for i in 0..len {
                for (row, y) in rows.iter().zip(y.iter_mut()) {
                    for (y, b) in y.iter_mut().zip(std::slice::from_raw_parts(b.add(i * SIDE), SIDE)) {
                        *y += *row.add(i) * b;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reference, RelativeBias};

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    /// Shapes around the sides of tiles, with and without bias, mask and causality, several rows at a time.
    #[test]
    fn agrees_with_the_reference() {
        let (heads, head_dim) = (3, 16);
        let width = heads * head_dim;
        for (q_len, kv_len, past) in [(16, 16, Some(0)), (33, 41, None), (37, 50, Some(13)), (70, 1, None)] {
            let (q, k, v) = (numbers(q_len * width, 1), numbers(kv_len * width, 2), numbers(kv_len * width, 3));
            let values = numbers(heads * 200, 4);
            let mask: Vec<u8> = (0..kv_len).map(|i| u8::from(i % 5 != 0 || kv_len == 1)).collect();
            let plain =
                AttentionRow { q: &q, k: &k, v: &v, q_len, kv_len, mask: None, causal_offset: past, bias: None };
            let bias = Some(RelativeBias { values: &values, span: 200, zero: 100, q_start: past.unwrap_or(0) });
            let rows = [plain, AttentionRow { bias, ..plain }, AttentionRow { bias, mask: Some(&mask), ..plain }];
            assert!(rows.iter().all(|row| suits(row, head_dim)));
            let mut found = [(); 3].map(|()| vec![f32::NAN; q_len * width]);
            let out: Vec<_> = found.iter_mut().map(|out| Disjoint::new(out)).collect();
            crate::simd::run(Packed { rows: &rows, heads, head_dim, out: &out }).unwrap();
            drop(out);
            for (row, found) in rows.iter().zip(&found) {
                for (found, expected) in found.iter().zip(reference::attention(row, heads, head_dim)) {
                    assert!((found - expected).abs() < 2e-6, "{q_len} queries, {kv_len} keys: {found}, not {expected}");
                }
            }
        }
    }
}
