//! `x · wᵀ` in AMX tiles (see [`crate::amx`]).
//!
//! Weights are the left operand, read in place when they are bfloat16; inputs are cut in parts and packed once per
//! product ([`Inputs`]). Sums come out feature by row and are transposed on their way to the output.

use super::{Block, RUN};
use crate::amx::{self, Ahead, Left, Right, DEPTH, PARTS, SIDE};
use crate::error::KernelError;
use crate::matrix::{Matrix, Values};
use crate::parallel::{self, Disjoint};
use crate::scratch::{self, Scratch};
use std::ops::Range;

/// Rows of inputs, times their parts, per pass over a panel of weights; their packed form stays in the L2 cache.
const BLOCK_PARTS: usize = 256 * PARTS;

/// Rows from which it may pay to copy bfloat16 weights.
const COPY_FROM: usize = 64;

/// Rows from which packing pays.
fn threshold(values: Values<'_>) -> usize {
    match values {
        Values::Bf16(_) => 5,
        _ => 32,
    }
}

/// Whether a product of `n` rows with weights of this shape goes through the tiles.
pub(crate) fn suits(n: usize, values: Values<'_>, rows: usize, cols: usize) -> bool {
    !matches!(values, Values::I8 { .. } | Values::I4 { .. })
        && n >= threshold(values)
        && rows >= SIDE
        && cols > 0
        && cols.is_multiple_of(DEPTH)
}

/// Inputs cut in parts and packed: for each block of 32 rows, for each 32 columns, for each part, two tiles.
pub(crate) struct Inputs {
    data: Scratch,
    cols: usize,
    parts: usize,
    /// First block of each segment.
    starts: Vec<usize>,
}

impl Inputs {
    /// Cuts in `parts` (1 to 3) and packs segments of the rows of `x`, each of `cols` elements. Each segment starts with a block of its own.
    pub fn pack(parts: usize, x: &[f32], cols: usize, segments: &[Range<usize>]) -> Result<Self, KernelError> {
        let what = "packed inputs";
        let mut starts = Vec::with_capacity(segments.len());
        let mut blocks = 0;
        for rows in segments {
            starts.push(blocks);
            blocks += rows.len().div_ceil(SIDE);
        }
        let steps = cols / DEPTH;
        let step_bytes = amx::step_bytes(parts);
        let mut data =
            scratch::take(what, blocks.checked_mul(steps * step_bytes / 4).ok_or(KernelError::TooLarge { what })?)?;
        let out = Disjoint::new(&mut data);
        parallel::for_each_range(blocks, 1, |range| {
            for block in range {
                let segment = starts.partition_point(|&start| start <= block) - 1;
                let first = segments[segment].start + (block - starts[segment]) * SIDE;
                let rows = (segments[segment].end - first).min(SIDE);
                let to = out.as_ptr().wrapping_add(block * steps * step_bytes / 4).cast::<u8>();
                for step in 0..steps {
                    // SAFETY: the source rows lie in `x`, the tiles in `data`; blocks do not overlap. The machine has
                    // AVX-512, without which AMX is not active.
                    unsafe {
                        let x = x[first * cols..(first + rows) * cols].as_ptr().add(step * DEPTH);
                        amx::pack_step(x, cols, rows, parts, to.add(step * step_bytes));
                    }
                }
            }
        });
        Ok(Self { data, cols, parts, starts })
    }

    /// The packed block of a segment's rows from `row`, a multiple of 32, at column `col`, a multiple of 32.
    fn block(&self, segment: usize, row: usize, col: usize) -> Right {
        let (block, steps) = (self.starts[segment] + row / SIDE, self.cols / DEPTH);
        let bytes = (block * steps + col / DEPTH) * amx::step_bytes(self.parts);
        Right { data: self.data.as_ptr().cast::<u8>().wrapping_add(bytes), parts: self.parts }
    }
}

/// Computes the columns `features` of `block`, whose inputs are a segment of `inputs`; as `gemm::product`.
///
/// # Safety
/// As `gemm::product`; and [`amx::request`] has returned true.
pub(crate) unsafe fn product(block: Block<'_>, inputs: &Inputs, segment: usize, features: Range<usize>) {
    // Inputs in two parts go with weights in one; a gate may be stored otherwise than the weights they were prepared for.
    if inputs.parts == 2 && !matches!(block.w.values, Values::Bf16(_)) {
        // SAFETY: the caller's promises.
        return unsafe { super::product_in_vectors(block, features) };
    }
    // SAFETY: the tile registers were granted.
    let _tiles = unsafe { amx::Tiles::configure() };
    let panel_bytes = amx::step_bytes(PARTS) * (RUN / DEPTH);
    if let Ok(mut panel) = scratch::take("a panel of weights", panel_bytes / 4) {
        // SAFETY: the caller's promises.
        unsafe { product_configured(block, inputs, segment, features, panel.as_mut_ptr().cast()) };
    } else {
        // SAFETY: the caller's promises.
        unsafe { super::product_in_vectors(block, features) };
    }
}

#[inline]
unsafe fn product_configured(
    block: Block<'_>,
    inputs: &Inputs,
    segment: usize,
    features: Range<usize>,
    panel: *mut u8,
) {
    let cols = block.w.cols;
    // Rows of weights that fall on the same cache lines, or are read for one product each only, are worth copying.
    let copy = block.n >= COPY_FROM && ((cols * 2).is_multiple_of(2048) || inputs.parts < PARTS);
    let block_rows = BLOCK_PARTS / inputs.parts;
    let mut sums = amx::Block([0.0; SIDE * SIDE]);
    let mut row = 0;
    while row < block.n {
        let rows = (block.n - row).min(block_rows);
        let mut start = 0;
        while start < cols {
            let len = (cols - start).min(RUN);
            let mut feature = features.start;
            while feature < features.end {
                let count = (features.end - feature).min(SIDE);
                // SAFETY: offsets lie within the operands, as the caller promises.
                unsafe {
                    let part = Part { values: block.w.values, start: feature * cols + start, cols, count, len };
                    let weights = panel_of(part, copy, inputs.parts, panel);
                    // Each block of rows asks for its share of the panel that comes next.
                    let next = (features.start..block.w.rows).contains(&(feature + SIDE));
                    let share = if next { SIDE.div_ceil(rows.div_ceil(SIDE)) } else { 0 };
                    let mut ahead = panel_after(&block.w, feature + SIDE, start, share);
                    let mut r = 0;
                    while r < rows {
                        let height = (rows - r).min(SIDE);
                        let x = inputs.block(segment, row + r, start);
                        amx::multiply_and_fetch(
                            &weights,
                            &x,
                            len / DEPTH,
                            height > 16,
                            ahead,
                            sums.0.as_mut_ptr(),
                            SIDE * 4,
                        );
                        ahead.first = ahead.first.wrapping_add(share * ahead.stride);
                        let y = block.y.add((row + r) * block.y_stride + feature);
                        amx::write_transposed(&sums, y, block.y_stride, height, count, start > 0);
                        r += height;
                    }
                }
                feature += count;
            }
            start += len;
        }
        row += rows;
    }
}

/// `rows` rows of weights from `row` and `col` on, to be asked from memory.
fn panel_after(w: &Matrix<'_>, row: usize, col: usize, rows: usize) -> Ahead {
    let (first, bytes) = match w.values {
        Values::F32(w) => (w.as_ptr().cast::<u8>(), 4),
        Values::F16(w) | Values::Bf16(w) => (w.as_ptr().cast(), 2),
        // Never in tiles (see `suits`).
        Values::I8 { .. } | Values::I4 { .. } => return Ahead::NOTHING,
    };
    let (stride, step) = (w.cols * bytes, DEPTH * bytes);
    Ahead { first: first.wrapping_add(row * stride + col * bytes), rows, stride, step }
}

/// Part of a weight matrix: `count` rows, `cols` apart, of `len` elements from element `start`.
struct Part<'a> {
    values: Values<'a>,
    start: usize,
    cols: usize,
    count: usize,
    len: usize,
}

/// Part of the weights as left operand: where they lie, if they are bfloat16 and no `copy` is wanted, or in `panel`.
unsafe fn panel_of(weights: Part<'_>, copy: bool, parts: usize, panel: *mut u8) -> Left {
    let Part { values, start, cols, count, len } = weights;
    // SAFETY: the caller's operands hold these rows; `panel` holds `RUN` columns of `SIDE` rows in parts.
    unsafe {
        match values {
            Values::Bf16(w) if count == SIDE && !copy => {
                let first = w.as_ptr().add(start).cast::<u8>();
                Left { first, second: first.add(16 * cols * 2), stride: cols * 2, step: DEPTH * 2, parts: 1 }
            }
            Values::Bf16(w) => {
                amx::copy_panel(w.as_ptr().add(start), cols, count, len, panel);
                Left::split(panel, 1)
            }
            Values::F32(w) => {
                amx::split_panel(w.as_ptr().add(start), cols, count, len, parts, panel);
                Left::split(panel, parts)
            }
            Values::F16(w) => {
                amx::split_panel(w.as_ptr().add(start), cols, count, len, parts, panel);
                Left::split(panel, parts)
            }
            // Never packed (see `suits`).
            Values::I8 { .. } | Values::I4 { .. } => Left::split(panel, parts),
        }
    }
}
