//! `x · wᵀ` in AMX tiles (see [`crate::amx`]).
//!
//! Weights are the left operand, read in place when they are bfloat16; inputs are cut in parts and packed once per
//! product ([`Inputs`]). Sums come out feature by row and are transposed on their way to the output; where they are the
//! inputs of another product they need not be, since that is how packed inputs lie.

use super::{Block, RUN};
use crate::activation::{activate_serial, Activation};
use crate::amx::{self, Ahead, Left, Right, DEPTH, PARTS, SIDE};
use crate::error::KernelError;
use crate::matrix::{Matrix, Values};
use crate::parallel::{self, Disjoint};
use crate::scratch::{self, Scratch};
use std::ops::Range;

/// Rows of inputs, times their parts, per pass over a panel of weights; their packed form stays in the L2 cache.
const BLOCK_PARTS: usize = 256 * PARTS;

/// Rows that one task takes of a product of many.
const TASK_ROWS: usize = 256;

/// Rows from which it pays to copy bfloat16 weights.
const COPY_FROM: usize = 64;

/// Part of a [`RUN`] of which a panel of weights in one part stays in the L1 cache.
const INNER_RUN: usize = RUN / 2;

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

/// See [`super::rows_per_task`].
pub(super) fn rows_per_task(n: usize) -> usize {
    n.div_ceil(n.div_ceil(TASK_ROWS).max(1)).next_multiple_of(SIDE)
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
        let mut packed = Self::room(parts, cols, segments)?;
        let Self { data, starts, .. } = &mut packed;
        let (steps, step_bytes) = (cols / DEPTH, amx::step_bytes(parts));
        let blocks = data.len() * 4 / (steps * step_bytes);
        let out = Disjoint::new(data);
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
        Ok(packed)
    }

    /// Room for what [`Self::pack`] would make, with unspecified contents.
    pub fn room(parts: usize, cols: usize, segments: &[Range<usize>]) -> Result<Self, KernelError> {
        let what = "packed inputs";
        let mut starts = Vec::with_capacity(segments.len());
        let mut blocks = 0;
        for rows in segments {
            starts.push(blocks);
            blocks += rows.len().div_ceil(SIDE);
        }
        let block = cols / DEPTH * amx::step_bytes(parts) / 4;
        let data = scratch::take(what, blocks.checked_mul(block).ok_or(KernelError::TooLarge { what })?)?;
        Ok(Self { data, cols, parts, starts })
    }

    /// The place of a segment's results, where these are to be filled in by another product.
    pub fn filling(&mut self) -> Filling<'_> {
        Filling { data: Disjoint::new(&mut self.data), cols: self.cols, parts: self.parts, starts: &self.starts }
    }

    /// Bfloat16 parts of an input.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The packed block of a segment's rows from `row`, a multiple of 32, at column `col`, a multiple of 32.
    fn block(&self, segment: usize, row: usize, col: usize) -> Right {
        let (block, steps) = (self.starts[segment] + row / SIDE, self.cols / DEPTH);
        let bytes = (block * steps + col / DEPTH) * amx::step_bytes(self.parts);
        Right { data: self.data.as_ptr().cast::<u8>().wrapping_add(bytes), parts: self.parts }
    }
}

/// [`Inputs`] that are being filled in by a product: its results become packed inputs of the next one where they come out
/// of the tiles, without being written and read as float32 in between.
pub(crate) struct Filling<'a> {
    data: Disjoint<'a>,
    cols: usize,
    parts: usize,
    starts: &'a [usize],
}

/// Where results go: to the block's output, or, after a function, into the inputs of the next product.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a> {
    Output,
    Inputs(&'a Filling<'a>, Activation),
}

/// Computes the columns `features` of `block`, whose inputs are a segment of `inputs`; as `gemm::product`, but that results
/// go to `sink`; into inputs only with a segment of the same rows there, and with columns that are whole steps. False when
/// there is no memory for it, and nothing was done.
///
/// # Safety
/// As `gemm::product`; and [`amx::request`] has returned true.
pub(crate) unsafe fn product_to(
    block: Block<'_>,
    inputs: &Inputs,
    segment: usize,
    features: Range<usize>,
    sink: Sink<'_>,
) -> bool {
    // SAFETY: the tile registers were granted.
    let _tiles = unsafe { amx::Tiles::configure() };
    let panel = amx::step_bytes(PARTS) * (RUN / DEPTH) / 4;
    let blocks = block.n.min(BLOCK_PARTS / inputs.parts).div_ceil(SIDE);
    let Ok(mut room) = scratch::take("a panel of weights and its sums", panel + blocks * SIDE * SIDE) else {
        return false;
    };
    let (panel, sums) = room.split_at_mut(panel);
    let (panel, sums) = (panel.as_mut_ptr().cast(), sums.as_mut_ptr());
    // SAFETY: the caller's promises.
    unsafe { Pass { block, inputs, segment, features, sink, panel, sums }.run() };
    true
}

/// [`product_to`] the output.
///
/// # Safety
/// As [`product_to`].
pub(crate) unsafe fn product(block: Block<'_>, inputs: &Inputs, segment: usize, features: Range<usize>) {
    // Inputs in two parts go with weights in one; a gate may be stored otherwise than the weights they were prepared for.
    if inputs.parts == 2 && !matches!(block.w.values, Values::Bf16(_)) {
        // SAFETY: the caller's promises.
        return unsafe { super::product_in_vectors(block, features) };
    }
    // SAFETY: the caller's promises.
    unsafe {
        if !product_to(block, inputs, segment, features.clone(), Sink::Output) {
            super::product_in_vectors(block, features);
        }
    }
}

/// A product with the thread's tiles and room for a panel of weights and the sums of each block of rows.
struct Pass<'a> {
    block: Block<'a>,
    inputs: &'a Inputs,
    segment: usize,
    features: Range<usize>,
    sink: Sink<'a>,
    panel: *mut u8,
    sums: *mut f32,
}

impl Pass<'_> {
    #[inline]
    unsafe fn run(self) {
        let block_rows = BLOCK_PARTS / self.inputs.parts;
        for row in (0..self.block.n).step_by(block_rows) {
            let rows = row..row + (self.block.n - row).min(block_rows);
            let (runs, panels) = (self.block.w.cols.div_ceil(RUN), self.features.len().div_ceil(SIDE));
            for index in 0..runs * panels {
                // Runs are added up in the output; on the way to inputs all of a panel's come one after another.
                let (run, panel) = match self.sink {
                    Sink::Output => (index / panels, index % panels),
                    Sink::Inputs(..) => (index % runs, index / runs),
                };
                let run = run * RUN..((run + 1) * RUN).min(self.block.w.cols);
                // SAFETY: the caller's promises.
                unsafe { self.panel(rows.clone(), run, self.features.start + panel * SIDE) };
            }
        }
    }

    /// A panel of weights from `feature` on, over a run of the summed dimension, by some rows.
    #[inline]
    unsafe fn panel(&self, rows: Range<usize>, run: Range<usize>, feature: usize) {
        let Self { block, inputs, segment, features, .. } = self;
        let (cols, blocks) = (block.w.cols, rows.len().div_ceil(SIDE));
        let count = (features.end - feature).min(SIDE);
        // Rows of weights that are read for few blocks are not worth copying.
        let copy = rows.len() >= COPY_FROM;
        let inner = if copy && inputs.parts < PARTS { INNER_RUN } else { RUN };
        // Each block of rows asks for its share of the panel that comes next.
        let next = feature + SIDE < block.w.rows;
        let share = if next { SIDE.div_ceil(blocks) } else { 0 };
        for start in run.clone().step_by(inner) {
            let len = (run.end - start).min(inner);
            let part = Part { values: block.w.values, start: feature * cols + start, cols, count, len };
            // SAFETY: offsets lie within the operands, as the caller promises.
            unsafe {
                let weights = panel_of(part, copy, inputs.parts, self.panel);
                let mut ahead = panel_after(&block.w, feature + SIDE, start, share);
                for (index, row) in rows.clone().step_by(SIDE).enumerate() {
                    let height = (rows.end - row).min(SIDE);
                    let x = inputs.block(*segment, row, start);
                    let sums = self.sums.add(index * SIDE * SIDE);
                    let add = start > if matches!(self.sink, Sink::Output) { run.start } else { 0 };
                    let steps = len / DEPTH;
                    amx::multiply_and_fetch(&weights, &x, steps, height > 16, add, ahead, sums, SIDE * 4);
                    ahead.first = ahead.first.wrapping_add(share * ahead.stride);
                    match self.sink {
                        Sink::Output if start + len == run.end => {
                            let y = block.y.add(row * block.y_stride + feature);
                            amx::write_transposed(sums, y, block.y_stride, height, count, run.start > 0);
                        }
                        Sink::Inputs(next, activation) if start + len == cols => {
                            activate_serial(activation, std::slice::from_raw_parts_mut(sums, SIDE * SIDE));
                            let (block, steps) = (next.starts[*segment] + row / SIDE, next.cols / DEPTH);
                            let bytes = (block * steps + feature / DEPTH) * amx::step_bytes(next.parts);
                            let to = next.data.as_ptr().cast::<u8>().add(bytes);
                            amx::pack_sums(sums, height, next.parts, to);
                        }
                        _ => {}
                    }
                }
            }
        }
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
