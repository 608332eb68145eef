//! Products in register tiles: some rows of inputs by four rows of weights, over any unit.
#![allow(clippy::needless_range_loop)] // Counted loops are what unrolls into registers.

use super::formats::BLOCK;
use super::inputs::Rows;
use super::unit::{self, Unit};
use crate::gemm::Block;
use crate::matrix::Values;
use std::ops::Range;

/// Rows of weights that go through the inputs together; of base models' longest they fill half an L1 cache.
const PANEL: usize = 16;

/// Rows up to which a product waits for memory rather than arithmetic.
const FEW: usize = 8;

/// Computes the columns `features` of `block` from its quantised rows.
///
/// # Safety
/// As `gemm::product`; `rows` are those of the block.
pub(super) unsafe fn product(block: &Block<'_>, rows: &Rows, features: Range<usize>) {
    unit::run(Product { block, rows, features });
}

struct Product<'a> {
    block: &'a Block<'a>,
    rows: &'a Rows,
    features: Range<usize>,
}

impl unit::Op for Product<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<U: Unit>(self) {
        let Self { block, rows, features } = self;
        let mut panel = features.start;
        while panel < features.end {
            let end = (panel + PANEL).min(features.end);
            let mut row = 0;
            while row < block.n {
                let height = (block.n - row).min(U::ROWS);
                let mut feature = panel;
                while feature < end {
                    let place = Place { row, feature, prefetch: block.n <= FEW };
                    // SAFETY: rows and features lie within the block, as the caller promises.
                    unsafe {
                        if feature + 4 <= end {
                            tile_of_height::<U, 4>(block, rows, place, height);
                            feature += 4;
                        } else {
                            tile_of_height::<U, 1>(block, rows, place, height);
                            feature += 1;
                        }
                    }
                }
                row += height;
            }
            panel = end;
        }
    }
}

/// A tile's first row and feature, and whether to ask for the weights after it.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    feature: usize,
    prefetch: bool,
}

#[inline(always)]
unsafe fn tile_of_height<U: Unit, const C: usize>(block: &Block<'_>, rows: &Rows, place: Place, height: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match height {
            1 => tile::<U, 1, C>(block, rows, place),
            2 => tile::<U, 2, C>(block, rows, place),
            3 => tile::<U, 3, C>(block, rows, place),
            4 => tile::<U, 4, C>(block, rows, place),
            5 => tile::<U, 5, C>(block, rows, place),
            _ => tile::<U, 6, C>(block, rows, place),
        }
    }
}

#[inline(always)]
unsafe fn tile<U: Unit, const R: usize, const C: usize>(block: &Block<'_>, rows: &Rows, place: Place) {
    if R > U::ROWS {
        return; // Never called; keeps tiles that would not fit in registers out of the build.
    }
    // SAFETY: the caller's promise.
    unsafe {
        match block.w.values {
            Values::I8 { values, scales } => int8::<U, R, C>(block, values.as_ptr(), scales.as_ptr(), rows, place),
            Values::I4 { values, scales, group } => {
                let per = group / BLOCK;
                int4::<U, R, C>(block, values.as_ptr(), scales.as_ptr(), per, rows, place);
            }
            Values::F32(_) | Values::F16(_) | Values::Bf16(_) => {}
        }
    }
}

#[inline(always)]
unsafe fn int8<U: Unit, const R: usize, const C: usize>(
    block: &Block<'_>,
    values: *const i8,
    scales: *const f32,
    rows: &Rows,
    place: Place,
) {
    let cols = block.w.cols;
    let width = if U::WIDE { 2 } else { 1 };
    // SAFETY: steps lie within the rows of inputs, which are padded, and of weights, whose last step is copied if it is
    // not whole.
    unsafe {
        let w = values.add(place.feature * cols);
        let mut x = [rows.row(place.row); R];
        for r in 0..R {
            x[r] = rows.row(place.row + r);
        }
        let mut sums = [[U::zero(); C]; R];
        let mut columns = [U::no_column(); C];
        let mut k = 0;
        while k + U::STEP <= cols {
            for c in 0..C {
                let at = w.add(c * cols + k);
                if place.prefetch {
                    U::prefetch(at.cast::<u8>().wrapping_add(AHEAD));
                }
                let step = U::weights(at);
                columns[c] = U::column(columns[c], step);
                for r in 0..R {
                    sums[r][c] = U::dot(sums[r][c], step, x[r].add(k * width));
                }
            }
            k += U::STEP;
        }
        if k < cols {
            for c in 0..C {
                let mut last = [0i8; 64];
                std::ptr::copy_nonoverlapping(w.add(c * cols + k), last.as_mut_ptr(), cols - k);
                let step = U::weights(last.as_ptr());
                columns[c] = U::column(columns[c], step);
                for r in 0..R {
                    sums[r][c] = U::dot(sums[r][c], step, x[r].add(k * width));
                }
            }
        }
        for r in 0..R {
            let meta = rows.meta(place.row + r);
            let y = block.y.add((place.row + r) * block.y_stride + place.feature);
            for c in 0..C {
                let sum = U::total(sums[r][c], columns[c]).wrapping_sub(U::OFFSET.wrapping_mul(meta.sum));
                *y.add(c) = sum as f32 * (meta.scale * *scales.add(place.feature + c));
            }
        }
    }
}

/// Bytes that weights are asked for in advance: some pages of a matrix that is read row by row.
const AHEAD: usize = 4096;

#[inline(always)]
unsafe fn int4<U: Unit, const R: usize, const C: usize>(
    block: &Block<'_>,
    values: *const u8,
    scales: *const f32,
    per: usize,
    rows: &Rows,
    place: Place,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match per {
            1 => int4_per::<U, R, C, 1>(block, values, scales, rows, place),
            2 => int4_per::<U, R, C, 2>(block, values, scales, rows, place),
            _ => int4_per::<U, R, C, 4>(block, values, scales, rows, place),
        }
    }
}

#[inline(always)]
unsafe fn int4_per<U: Unit, const R: usize, const C: usize, const PER: usize>(
    block: &Block<'_>,
    values: *const u8,
    scales: *const f32,
    rows: &Rows,
    place: Place,
) {
    let blocks = block.w.cols / BLOCK;
    let groups = blocks / PER;
    let half = U::BLOCKS * (BLOCK / 2) * if U::WIDE_BLOCKS { 2 } else { 1 };
    // SAFETY: as in `int8`; a row of weights is whole blocks, 16 bytes each.
    unsafe {
        let w = values.add(place.feature * blocks * (BLOCK / 2));
        let scales = scales.add(place.feature * groups);
        let mut x = [(rows.row(place.row), rows.corrections(place.row)); R];
        for r in 0..R {
            x[r] = (rows.row(place.row + r), rows.corrections(place.row + r));
        }
        let mut floats = [[U::no_floats(); C]; R];
        let mut step = 0;
        while (step + 1) * U::BLOCKS <= blocks {
            let first = step * U::BLOCKS;
            for c in 0..C {
                let at = w.add((c * blocks + first) * (BLOCK / 2));
                if place.prefetch {
                    U::prefetch(at.wrapping_add(AHEAD));
                }
                let [low, high] = U::nibbles(at);
                let scale = U::scales(scales.add(c * groups + first / PER), PER);
                for r in 0..R {
                    let from = x[r].0.add(step * half * 2);
                    let sums = U::load(x[r].1.add(step * U::LANES));
                    let sums = U::dot_nibbles(sums, low, from);
                    let sums = U::dot_nibbles(sums, high, from.add(half));
                    floats[r][c] = U::scale(floats[r][c], sums, scale);
                }
            }
            step += 1;
        }
        let first = step * U::BLOCKS;
        if first < blocks {
            for c in 0..C {
                let mut last = [0u8; 64];
                let at = w.add((c * blocks + first) * (BLOCK / 2));
                std::ptr::copy_nonoverlapping(at, last.as_mut_ptr(), (blocks - first) * (BLOCK / 2));
                let mut some = [0f32; 4];
                let count = (blocks - first).div_ceil(PER);
                std::ptr::copy_nonoverlapping(scales.add(c * groups + first / PER), some.as_mut_ptr(), count);
                let [low, high] = U::nibbles(last.as_ptr());
                let scale = U::scales(some.as_ptr(), PER);
                for r in 0..R {
                    let from = x[r].0.add(step * half * 2);
                    let sums = U::load(x[r].1.add(step * U::LANES));
                    let sums = U::dot_nibbles(sums, low, from);
                    let sums = U::dot_nibbles(sums, high, from.add(half));
                    floats[r][c] = U::scale(floats[r][c], sums, scale);
                }
            }
        }
        for r in 0..R {
            let meta = rows.meta(place.row + r);
            let y = block.y.add((place.row + r) * block.y_stride + place.feature);
            for c in 0..C {
                *y.add(c) = U::total_floats(floats[r][c]) * meta.scale;
            }
        }
    }
}
