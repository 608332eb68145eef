//! The product of many rows for instruction sets with few registers and simple compilers, WebAssembly above all.
//!
//! Both operands are copied so that a tile's vectors lie one after another: its innermost loop then has two pointers and
//! constant offsets instead of six of each, and nothing is spilled. Each output is summed in the same order as elsewhere.
//!
//! Tiles of rows by features, GFLOP/s in V8 (one thread; SIMD128, which multiplies and adds at 45 to 48, and relaxed SIMD,
//! at 62 with its multiply-add), operands in L1: 2 by 4 47 and 57, 3 by 3 47 and 61, 3 by 4 34 and 44 (registers spill), 4 by
//! 2 37 and 42; of 2 by 4 unrolled by 2 31 and 42. With one input spread over a vector and features side by side: 4 by 8
//! 48 and 59, 3 by 12 39 and 46.

use super::{Block, RUN};
use crate::scratch;
use crate::simd::{Element, Simd, F32};
use std::ops::Range;

/// Rows and features of a register tile. All of its operands fit in registers together, in whatever order a compiler
/// loads them; of 3 by 3, which is faster with few at a time, LLVM makes one that spills (28 GFLOP/s).
const ROWS: usize = 2;
const FEATURES: usize = 4;

/// Features that go through the inputs together: their copies and a tile's inputs share an L1 cache.
const PANEL: usize = 2 * FEATURES;

/// Most rows per pass over the weights, which copies them again: passes are as few and as even as can be.
const BLOCK_ROWS: usize = 256;

/// Rows from which copying pays.
pub(super) const FROM: usize = 12;

/// As `gemm::product_of`; false when there is no memory for the copies.
///
/// # Safety
/// As `gemm::product`, and `w` holds the block's weights.
#[inline(always)]
pub(super) unsafe fn product<S: Simd, E: Element>(
    block: &Block<'_>,
    w: *const E::Bits,
    features: &Range<usize>,
) -> bool {
    let cols = block.w.cols;
    let longest = cols.min(RUN).next_multiple_of(S::N);
    let block_rows = block.n.div_ceil(block.n.div_ceil(BLOCK_ROWS).max(1)).next_multiple_of(ROWS);
    let (Ok(mut x_copy), Ok(mut w_copy)) =
        (scratch::take("copied inputs", block_rows * longest), scratch::take("copied weights", PANEL * longest))
    else {
        return false;
    };
    for row in (0..block.n).step_by(block_rows.max(ROWS)) {
        let rows = (block.n - row).min(block_rows);
        for start in (0..cols).step_by(RUN) {
            let len = (cols - start).min(RUN);
            // SAFETY: all offsets lie within the operands, as the caller promises, and within the copies.
            unsafe {
                let x = block.x.as_ptr().add(row * block.x_stride + start);
                interleave::<S, F32, ROWS>(x, block.x_stride, rows, len, x_copy.as_mut_ptr());
                for feature in features.clone().step_by(PANEL) {
                    let count = (features.end - feature).min(PANEL);
                    interleave::<S, E, FEATURES>(w.add(feature * cols + start), cols, count, len, w_copy.as_mut_ptr());
                    let y = block.y.add(row * block.y_stride + feature);
                    panel::<S>(x_copy.as_ptr(), w_copy.as_ptr(), len, [rows, count], y, block.y_stride, start > 0);
                }
            }
        }
    }
    true
}

/// Copies `count` rows of `len` elements, `stride` apart: for each `SIDE` of them, for each vector of the length, that
/// vector of each. What is missing is 0.
#[inline(always)]
unsafe fn interleave<S: Simd, E: Element, const SIDE: usize>(
    from: *const E::Bits,
    stride: usize,
    count: usize,
    len: usize,
    mut to: *mut f32,
) {
    let steps = len.div_ceil(S::N);
    // SAFETY: the caller's rows and copies have this size.
    unsafe {
        for first in (0..count).step_by(SIDE) {
            for i in 0..SIDE {
                if first + i >= count {
                    for step in 0..steps {
                        S::store(to.add((step * SIDE + i) * S::N), S::splat(0.0));
                    }
                    continue;
                }
                let from = from.add((first + i) * stride);
                let whole = len / S::N;
                for step in 0..whole {
                    S::store(to.add((step * SIDE + i) * S::N), E::load::<S>(from.add(step * S::N)));
                }
                if whole < steps {
                    let rest = E::load_first::<S>(from.add(whole * S::N), len - whole * S::N);
                    S::store(to.add((whole * SIDE + i) * S::N), rest);
                }
            }
            to = to.add(steps * SIDE * S::N);
        }
    }
}

/// All tiles of copied inputs and a panel of copied weights; `size` is in rows and features.
#[inline(always)]
unsafe fn panel<S: Simd>(
    x: *const f32,
    w: *const f32,
    len: usize,
    size: [usize; 2],
    y: *mut f32,
    y_stride: usize,
    add: bool,
) {
    let steps = len.div_ceil(S::N);
    let [rows, features] = size;
    for row in (0..rows).step_by(ROWS) {
        for feature in (0..features).step_by(FEATURES) {
            // SAFETY: the copies hold these tiles, the output these rows and features.
            unsafe {
                let sums = tile::<S>(x.add(row * steps * S::N), w.add(feature * steps * S::N), steps);
                for (i, sums) in sums.iter().enumerate().take(rows - row) {
                    for (j, sum) in sums.iter().enumerate().take(features - feature) {
                        let to = y.add((row + i) * y_stride + feature + j);
                        *to = if add { *to + sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// A function of its own: within a large one V8 spills what the loop needs (27 GFLOP/s).
#[inline(never)]
unsafe fn tile<S: Simd>(mut x: *const f32, mut w: *const f32, steps: usize) -> [[f32; FEATURES]; ROWS] {
    // SAFETY: the copies hold `steps` steps.
    unsafe {
        let mut sums = [[S::splat(0.0); FEATURES]; ROWS];
        let end = x.wrapping_add(steps * ROWS * S::N);
        while x < end {
            let inputs = [S::load(x), S::load(x.add(S::N))];
            for j in 0..FEATURES {
                let weight = S::load(w.add(j * S::N));
                for i in 0..ROWS {
                    sums[i][j] = S::fma(inputs[i], weight, sums[i][j]);
                }
            }
            (x, w) = (x.add(ROWS * S::N), w.add(FEATURES * S::N));
        }
        sums.map(|sums| S::sum4(sums))
    }
}
