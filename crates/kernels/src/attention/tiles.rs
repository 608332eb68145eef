//! Attention in AMX tiles (see [`crate::amx`]), for many queries.
//!
//! Of one head, keys and values are cut in parts and packed once; then, for 32 queries at a time, scores come out of the
//! tiles row by row, are weighed in vectors, cut in parts as well and multiplied with the values.
//!
//! One row of 512 queries and keys, 12 heads of 64, one core: 8.9 ms in vectors, 4.7 in tiles.

use super::{weigh, AttentionRow, Failure};
use crate::amx::{self, Left, Right, DEPTH, SIDE};
use crate::error::KernelError;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::scratch::{self, Scratch};
use crate::simd::{self, Op, Simd};
use std::ops::Range;

/// Fewer queries than this are not worth the packing.
const MIN_QUERIES: usize = 16;
/// More keys than this would push a tile's scores out of the cache.
const MAX_KEYS: usize = 8192;

/// Whether a row's shape fits the tiles.
pub(super) fn suits(row: &AttentionRow<'_>, head_dim: usize) -> bool {
    row.q_len >= MIN_QUERIES && (1..=MAX_KEYS).contains(&row.kv_len) && head_dim.is_multiple_of(DEPTH)
}

/// [`super::attention`] for rows that all suit; everything has been checked.
pub(super) fn attention(
    precision: Precision,
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    out: &[Disjoint<'_>],
) -> Result<(), KernelError> {
    // A head's queries are cut only as far as it takes to occupy the threads: each cut packs the keys again.
    let cuts = (2 * parallel::threads()).div_ceil((rows.len() * heads).max(1));
    let failure = Failure::default();
    parallel::for_each_task(rows.len() * heads * cuts, |task| {
        let (index, head, cut) = (task / cuts / heads, task / cuts % heads, task % cuts);
        let row = &rows[index];
        let size = row.q_len.div_ceil(cuts).next_multiple_of(SIDE);
        let queries = (cut * size).min(row.q_len)..((cut + 1) * size).min(row.q_len);
        if !queries.is_empty() {
            let out = out[index].as_ptr();
            let head = Head { row, head, head_dim, width: heads * head_dim, parts: precision.parts() };
            // SAFETY: AMX is active; shapes were checked; tasks write different queries or heads.
            failure.note(unsafe { head.attend(queries, out) });
        }
    });
    failure.into_result()
}

#[derive(Clone, Copy)]
struct Head<'a> {
    row: &'a AttentionRow<'a>,
    head: usize,
    head_dim: usize,
    width: usize,
    parts: usize,
}

impl Head<'_> {
    /// # Safety
    /// AMX is active, the row's shapes have been checked, and nothing else touches this head's output of these queries.
    unsafe fn attend(self, queries: Range<usize>, out: *mut f32) -> Result<(), KernelError> {
        let Self { row, head, head_dim, width, parts } = self;
        let step_bytes = amx::step_bytes(parts);
        let column = head * head_dim;
        let blocks = row.kv_len.div_ceil(SIDE);
        let stride = blocks * SIDE;
        let depth = head_dim / DEPTH;
        let mut packed_k = take(blocks * depth * step_bytes)?;
        let mut packed_v = take(depth * blocks * step_bytes)?;
        let mut panel = take(blocks.max(depth) * step_bytes)?;
        let mut scores = scratch::take("attention scores", SIDE * stride)?;
        let (keys, values, panel) = (bytes(&mut packed_k), bytes(&mut packed_v), bytes(&mut panel));
        // SAFETY: rows of keys and values have these places; buffers hold these steps.
        unsafe {
            for block in 0..blocks {
                let rows = (row.kv_len - block * SIDE).min(SIDE);
                for step in 0..depth {
                    let k = row.k.as_ptr().add(block * SIDE * width + column + step * DEPTH);
                    amx::pack_step(k, width, rows, parts, keys.add((block * depth + step) * step_bytes));
                }
            }
            for part in 0..depth {
                let v = row.v.as_ptr().add(column + part * SIDE);
                amx::interleave_pairs(v, width, row.kv_len, parts, values.add(part * blocks * step_bytes));
            }
        }
        // SAFETY: AMX is active.
        let _tiles = unsafe { amx::Tiles::configure() };
        let left = Left::split(panel, parts);
        let keys_of = |block: usize| Right { data: keys.wrapping_add(block * depth * step_bytes), parts };
        let mut rest = amx::Block([0.0; SIDE * SIDE]);
        let mut first = queries.start;
        while first < queries.end {
            let some = first..(first + SIDE).min(queries.end);
            let seen = row.visible(some.end - 1).div_ceil(SIDE);
            // SAFETY: as above; the output has these queries and columns.
            unsafe {
                amx::split_panel(row.q.as_ptr().add(first * width + column), width, some.len(), head_dim, parts, panel);
                // The last block's columns past the last key are unspecified; `weigh` sets them to 0.
                for block in 0..seen {
                    let to = scores.as_mut_ptr().add(block * SIDE);
                    amx::multiply(&left, &keys_of(block), depth, true, to, stride * 4);
                }
                let queries = some.clone();
                let used = simd::run(Weigh { row, head, queries, scores: &mut scores, stride }).div_ceil(SIDE);
                amx::split_panel(scores.as_ptr(), stride, some.len(), used * SIDE, parts, panel);
                for part in 0..depth {
                    let values = Right { data: values.add(part * blocks * step_bytes), parts };
                    let to = out.add(first * width + column + part * SIDE);
                    if some.len() == SIDE {
                        amx::multiply(&left, &values, used, true, to, width * 4);
                        continue;
                    }
                    amx::multiply(&left, &values, used, true, rest.0.as_mut_ptr(), SIDE * 4);
                    for (i, sums) in rest.0.chunks_exact(SIDE).enumerate().take(some.len()) {
                        std::ptr::copy_nonoverlapping(sums.as_ptr(), to.add(i * width), SIDE);
                    }
                }
            }
            first = some.end;
        }
        Ok(())
    }
}

fn take(bytes: usize) -> Result<Scratch, KernelError> {
    scratch::take("packed keys and values", bytes / 4)
}

fn bytes(scratch: &mut Scratch) -> *mut u8 {
    scratch.as_mut_ptr().cast()
}

/// [`weigh`] with the active instruction set.
struct Weigh<'a> {
    row: &'a AttentionRow<'a>,
    head: usize,
    queries: Range<usize>,
    scores: &'a mut [f32],
    stride: usize,
}

impl Op for Weigh<'_> {
    type Out = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        weigh::<S>(self.row, self.head, self.queries, self.scores, self.stride)
    }
}
