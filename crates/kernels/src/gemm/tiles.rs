//! `x · wᵀ` in AMX tiles (see [`crate::amx`]).
//!
//! Weights are the left operand, read in place when they are bfloat16; inputs are cut in parts and packed once per
//! product ([`Inputs`]). Sums come out feature by row and are transposed on their way to the output.

use super::{Block, RUN};
use crate::amx::{self, Left, Right, DEPTH, PARTS, SIDE};
use crate::error::KernelError;
use crate::matrix::Values;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::scratch::{self, Scratch};
use std::ops::Range;

/// Rows of inputs per pass over a panel of weights; their packed form stays in the L2 cache.
const BLOCK_ROWS: usize = 256;

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
    /// Packs segments of the rows of `x`, each of `cols` elements. Each segment starts with a block of its own.
    pub fn pack(precision: Precision, x: &[f32], cols: usize, segments: &[Range<usize>]) -> Result<Self, KernelError> {
        let what = "packed inputs";
        let mut starts = Vec::with_capacity(segments.len());
        let mut blocks = 0;
        for rows in segments {
            starts.push(blocks);
            blocks += rows.len().div_ceil(SIDE);
        }
        let (steps, parts) = (cols / DEPTH, precision.parts());
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
    let copy = block.n >= COPY_FROM && ((cols * 2).is_multiple_of(2048) || inputs.parts == 1);
    let mut sums = amx::Block([0.0; SIDE * SIDE]);
    let mut row = 0;
    while row < block.n {
        let rows = (block.n - row).min(BLOCK_ROWS);
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
                    let mut r = 0;
                    while r < rows {
                        let height = (rows - r).min(SIDE);
                        let x = inputs.block(segment, row + r, start);
                        amx::multiply(&weights, &x, len / DEPTH, height > 16, sums.0.as_mut_ptr(), SIDE * 4);
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
