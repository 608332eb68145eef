//! Attention in training: dropout on the probabilities, and each query's log-sum-exp kept for the way back.

use super::dropout::Dropout;
use super::product::{dots, outer, Dots, Outer};
use crate::attention::AttentionRow;
use crate::error::{expect_len, product, KernelError};
use crate::math;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{self, Op, Simd};
use std::ops::Range;
use std::sync::Mutex;

/// Queries that go through the keys together.
pub(super) const TILE_QUERIES: usize = 48;

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// [`crate::attention()`] in training: `out = dropout(softmax(q · kᵀ + bias)) · v` per head, with the same rules for masks.
///
/// Dropout numbers the probabilities of a call in order: element `(row, head, i, j)` is `before(row) + (head * q_len + i) *
/// kv_len + j`, where `before` counts those of earlier rows. `lse` gets, per row, `[heads, q_len]`: the logarithm of the sum
/// of the exponentials of a query's scores. For a query that may see no key, whose scores all count as equal, it is `ln
/// kv_len`; without keys it is `-inf`.
pub fn attention_train(
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    dropout: &Dropout,
    out: &mut [&mut [f32]],
    lse: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let width = product("heads * head_dim", heads, head_dim)?;
    expect_len("attention output rows", out.len(), rows.len())?;
    expect_len("log-sum-exp rows", lse.len(), rows.len())?;
    for ((row, out), lse) in rows.iter().zip(out.iter()).zip(lse.iter()) {
        row.check(heads, width)?;
        expect_len("attention output elements", out.len(), row.q.len())?;
        expect_len("log-sum-exp elements", lse.len(), product("log-sum-exp", heads, row.q_len)?)?;
    }
    if width == 0 {
        return Ok(());
    }
    let numbers = first_numbers(rows, heads);
    let out: Vec<Disjoint<'_>> = out.iter_mut().map(|out| Disjoint::new(out)).collect();
    let lse: Vec<Disjoint<'_>> = lse.iter_mut().map(|lse| Disjoint::new(lse)).collect();
    let work = rows.iter().map(|row| row.q_len.saturating_mul(row.kv_len).saturating_mul(head_dim)).max().unwrap_or(0);
    let scores = scores_of(rows)?;
    let failure = Mutex::new(Ok(()));
    parallel::for_each_range(rows.len() * heads, GRAIN.div_ceil(work.max(1)), |range| {
        let buffers = scratch::take("attention scores", scores)
            .and_then(|scores| Ok((scores, scratch::take("a mask", hidden_of(rows))?)));
        match buffers {
            Ok((mut buffer, mut hidden)) => {
                for task in range {
                    let (index, head) = (task / heads, task % heads);
                    let row = &rows[index];
                    let scores = Scores { row, head, head_dim, width, dropout, first: numbers[index] };
                    let lse = lse[index].as_ptr().wrapping_add(head * row.q_len);
                    let next = rows.get(index + 1).map(|row| [row.q, row.k, row.v]);
                    simd::run(Ahead { values: next.unwrap_or_default(), part: head, parts: heads });
                    simd::run(Forward {
                        scores,
                        buffer: &mut buffer,
                        hidden: &mut hidden,
                        out: out[index].as_ptr(),
                        lse,
                    });
                }
            }
            Err(error) => *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Err(error),
        }
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The number of each row's first probability.
pub(super) fn first_numbers(rows: &[AttentionRow<'_>], heads: usize) -> Vec<u64> {
    let mut next = 0u64;
    let count = |row: &AttentionRow<'_>| (heads as u64).wrapping_mul(row.q_len as u64).wrapping_mul(row.kv_len as u64);
    let mut first = |row| {
        let now = next;
        next = next.wrapping_add(count(row));
        now
    };
    rows.iter().map(&mut first).collect()
}

/// Elements of the scores of a tile of any row, each query's filled up to whole vectors.
pub(super) fn scores_of(rows: &[AttentionRow<'_>]) -> Result<usize, KernelError> {
    let longest = rows.iter().map(|row| row.kv_len).max().unwrap_or(0);
    let queries = rows.iter().map(|row| row.q_len).max().unwrap_or(0).min(TILE_QUERIES);
    product("attention scores", queries, line_of(longest))
}

/// Elements of a mask of any row.
pub(super) fn hidden_of(rows: &[AttentionRow<'_>]) -> usize {
    line_of(rows.iter().filter(|row| row.mask.is_some()).map(|row| row.kv_len).max().unwrap_or(0))
}

/// Elements from one query's scores to the next one's.
#[inline(always)]
pub(super) fn line_of(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// Asks for what comes next: heads lie apart in memory, in lines so short that the processor does not do it by itself.
pub(super) struct Ahead<'a, const N: usize> {
    pub values: [&'a [f32]; N],
    /// Which part of the values, so that they are asked for bit by bit.
    pub part: usize,
    pub parts: usize,
}

/// Longer rows would drive what is being read out of the cache.
const MAX_AHEAD: usize = 8 * 1024;

impl<const N: usize> Op for Ahead<'_, N> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { values, part, parts } = self;
        for values in values.iter().filter(|values| values.len() <= MAX_AHEAD) {
            let range = values.len() * part / parts..values.len() * (part + 1) / parts;
            for line in values[range].chunks(16) {
                // SAFETY: asking for memory has no effect but on the time that reading takes.
                unsafe { S::prefetch(line.as_ptr()) };
            }
        }
    }
}

/// One head of a row.
#[derive(Clone, Copy)]
pub(super) struct Scores<'a> {
    pub row: &'a AttentionRow<'a>,
    pub head: usize,
    pub head_dim: usize,
    pub width: usize,
    pub dropout: &'a Dropout,
    /// The number of the row's first probability.
    pub first: u64,
}

impl Scores<'_> {
    /// `to[i, j] = x[i] · y[j]` for queries or their gradients `x` and keys or values `y`; rows of `to` are as long as
    /// [`line_of`] says.
    ///
    /// # Safety
    /// The row's lengths have been checked, and `to` holds a tile.
    #[inline(always)]
    pub unsafe fn dots(&self, x: &[f32], queries: &Range<usize>, y: &[f32], keys: usize, to: &mut [f32]) {
        let column = self.head * self.head_dim;
        // SAFETY: the caller's promise.
        unsafe {
            let tile = Dots {
                x: x.as_ptr().add(queries.start * self.width + column),
                x_stride: self.width,
                w: y.as_ptr().add(column),
                w_stride: self.width,
                len: self.head_dim,
                y: to.as_mut_ptr(),
                y_stride: line_of(self.row.kv_len),
            };
            dots(tile, queries.len(), keys);
        }
    }

    /// Leading keys that a query may see, or `None` if it sees none and so weighs all alike.
    #[inline(always)]
    pub fn seen(&self, query: usize, first_allowed: usize) -> Option<usize> {
        let visible = self.row.visible(query);
        (first_allowed < visible).then_some(visible)
    }

    /// Position of the first key that is not masked.
    #[inline(always)]
    pub fn first_allowed(&self) -> usize {
        self.row.mask.map_or(0, |mask| mask.iter().position(|&m| m != 0).unwrap_or(self.row.kv_len))
    }

    /// The row's mask, a line of numbers of which those that are not 0 hide a key; empty without a mask.
    #[inline(always)]
    pub fn hidden<'b>(&self, room: &'b mut [f32]) -> &'b [f32] {
        let Some(mask) = self.row.mask else { return &[] };
        let line = &mut room[..line_of(mask.len())];
        line.fill(0.0);
        for (hidden, mask) in line.iter_mut().zip(mask) {
            *hidden = if *mask == 0 { 1.0 } else { 0.0 };
        }
        line
    }

    /// Adds the bias to a query's line of scores, and hides what is masked or lies past its `visible` keys. A line is whole
    /// vectors, so that nothing here works on a part of one that is then read as a whole.
    #[inline(always)]
    pub fn mask<S: Simd>(&self, query: usize, visible: usize, hidden: &[f32], line: &mut [f32]) {
        if let Some(bias) = &self.row.bias {
            let start = self.head * bias.span + bias.zero - (bias.q_start + query);
            let bias = &bias.values[start..];
            let len = if bias.len() >= line.len() { line.len() } else { visible };
            add_to::<S>(&mut line[..len], bias);
        }
        for (i, chunk) in line.chunks_exact_mut(LANES).enumerate() {
            let left = visible.saturating_sub(i * LANES).min(LANES) as u32;
            for (lane, x) in chunk.iter_mut().enumerate() {
                *x = if (lane as u32) < left { *x } else { f32::NEG_INFINITY };
            }
        }
        for (chunk, hidden) in line.chunks_exact_mut(LANES).zip(hidden.chunks_exact(LANES)) {
            for (x, hidden) in chunk.iter_mut().zip(hidden) {
                *x = if *hidden == 0.0 { *x } else { f32::NEG_INFINITY };
            }
        }
    }

    /// The number of a query's first probability.
    #[inline(always)]
    pub fn number(&self, query: usize) -> u64 {
        let line = (self.head * self.row.q_len + query) as u64;
        self.first.wrapping_add(line.wrapping_mul(self.row.kv_len as u64))
    }
}

struct Forward<'a> {
    scores: Scores<'a>,
    buffer: &'a mut [f32],
    /// Room for the mask.
    hidden: &'a mut [f32],
    /// The row's output; this head is written only.
    out: *mut f32,
    /// The head's.
    lse: *mut f32,
}

impl Op for Forward<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { scores, buffer, hidden, out, lse } = self;
        let Scores { row, head, head_dim, width, dropout, .. } = scores;
        let (keys, column) = (row.kv_len, head * head_dim);
        let first_allowed = scores.first_allowed();
        let hidden = scores.hidden(hidden);
        for start in (0..row.q_len).step_by(TILE_QUERIES) {
            let queries = start..(start + TILE_QUERIES).min(row.q_len);
            // SAFETY: lengths were checked, and no other task writes this head's output.
            unsafe {
                if keys == 0 {
                    for query in queries {
                        std::slice::from_raw_parts_mut(out.add(query * width + column), head_dim).fill(0.0);
                        *lse.add(query) = f32::NEG_INFINITY;
                    }
                    continue;
                }
                scores.dots(row.q, &queries, row.k, row.visible(queries.end - 1), buffer);
                // Step by step over all queries: each step of one query waits for the one before, that of another does not.
                let line = line_of(keys);
                let mut used = 0;
                for (query, p) in queries.clone().zip(buffer.chunks_exact_mut(line)) {
                    let seen = scores.seen(query, first_allowed);
                    used = used.max(seen.unwrap_or(keys));
                    match seen {
                        Some(visible) => scores.mask::<S>(query, visible, hidden, p),
                        None => {
                            // All keys alike.
                            p[..keys].fill(0.0);
                            p[keys..].fill(f32::NEG_INFINITY);
                        }
                    }
                }
                let mut largest_of = [0f32; TILE_QUERIES];
                for (max, p) in largest_of.iter_mut().zip(buffer[..queries.len() * line].chunks_exact(line)) {
                    *max = largest(p);
                }
                let mut sums = [1f32; TILE_QUERIES];
                let lines = buffer[..queries.len() * line].chunks_exact_mut(line);
                for ((p, max), sum) in lines.zip(&largest_of).zip(&mut sums) {
                    *sum = exponentials::<S>(p, *max);
                }
                for (p, sum) in buffer.chunks_exact_mut(line).zip(&sums[..queries.len()]) {
                    let scale = 1.0 / sum;
                    for chunk in p.chunks_exact_mut(LANES) {
                        chunk.iter_mut().for_each(|x| *x *= scale);
                    }
                }
                for ((query, max), sum) in queries.clone().zip(&largest_of).zip(&sums) {
                    *lse.add(query) = max + sum.ln();
                }
                if !dropout.is_none() {
                    for (query, p) in queries.clone().zip(buffer.chunks_exact_mut(line)) {
                        dropout.apply_inline(scores.number(query), &mut p[..keys]);
                    }
                }
                let product = Outer {
                    a: buffer.as_ptr(),
                    a_row: line,
                    a_step: 1,
                    b: row.v.as_ptr().add(column),
                    b_stride: width,
                    depth: used,
                    c: out.add(start * width + column),
                    c_stride: width,
                    add: false,
                };
                outer(product, queries.len(), head_dim);
            }
        }
    }
}

/// Partial results per row; their number is part of the numerical definition.
pub(super) const LANES: usize = 16;

/// Replaces a line of scores by the exponentials of their distances to the largest, and returns their sum.
#[inline(always)]
fn exponentials<S: Simd>(line: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    for chunk in line.chunks_exact_mut(LANES) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = math::exp::<S>(*x - max);
            *lane += *x;
        }
    }
    sum(lanes)
}

#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = if x > *lane { x } else { *lane };
    }
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            let other = lanes[i + half];
            lanes[i] = if other > lanes[i] { other } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

/// `to += from`, as far as both go.
#[inline(always)]
pub(super) fn add_to<S: Simd>(to: &mut [f32], from: &[f32]) {
    let (len, mut i) = (to.len().min(from.len()), 0);
    // SAFETY: both hold `len` elements.
    unsafe {
        let one = S::splat(1.0);
        let (to, from) = (to.as_mut_ptr(), from.as_ptr());
        while i + S::N <= len {
            S::store(to.add(i), S::fma(one, S::load(from.add(i)), S::load(to.add(i))));
            i += S::N;
        }
        if i < len {
            let sum = S::fma(one, S::load_first(from.add(i), len - i), S::load_first(to.add(i), len - i));
            S::store_first(to.add(i), sum, len - i);
        }
    }
}

#[inline(always)]
pub(super) fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
