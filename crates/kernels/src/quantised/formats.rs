//! The two formats: what is a valid matrix, what its values are, and how they are made.
//!
//! Int8: `value = scale[row] · q`, `q` in -127 ..= 127.
//!
//! Int4: `value = scale[row, column / group] · (q - 8)`, `q` in 0 ..= 15. Columns come in blocks of 32, which take 16
//! bytes: byte `i` holds column `i` of the block in its low half and column `i + 16` in its high half, so that a vector of
//! bytes becomes two vectors of values by one mask and one shift.

use crate::error::{expect_len, KernelError};
use crate::matrix::{Matrix, Values};
use crate::parallel;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Columns of an int4 block.
pub const BLOCK: usize = 32;

/// Columns that may share a scale in int4.
pub const GROUPS: [usize; 3] = [32, 64, 128];

/// Most columns of a quantised matrix: their sum of products fits in 32 bits.
pub const MAX_COLS: usize = 1 << 17;

/// Checks scales and shape of a quantised matrix whose number of elements is right; anything passes that is not quantised.
pub(crate) fn check(w: &Matrix<'_>) -> Result<(), KernelError> {
    let most = |cols| match cols <= MAX_COLS {
        true => Ok(()),
        false => Err(KernelError::Dimension {
            what: "columns of quantised weights",
            expected: "131072 or fewer",
            found: cols,
        }),
    };
    match w.values {
        Values::F32(_) | Values::F16(_) | Values::Bf16(_) => Ok(()),
        Values::I8 { scales, .. } => {
            most(w.cols)?;
            expect_len("scales of int8 weights", scales.len(), w.rows)
        }
        Values::I4 { scales, group, .. } => {
            most(w.cols)?;
            if !GROUPS.contains(&group) {
                return Err(KernelError::Dimension {
                    what: "group of int4 weights",
                    expected: "32, 64 or 128",
                    found: group,
                });
            }
            if !w.cols.is_multiple_of(group) {
                let expected = "a multiple of the group";
                return Err(KernelError::Dimension { what: "columns of int4 weights", expected, found: w.cols });
            }
            expect_len("scales of int4 weights", scales.len(), w.rows * (w.cols / group))
        }
    }
}

/// Elements `start..` of an int8 matrix with a scale per row.
pub(crate) fn widen_int8(values: &[i8], scales: &[f32], start: usize, out: &mut [f32]) {
    let cols = values.len().checked_div(scales.len()).unwrap_or(0).max(1);
    let rest = values.get(start..).unwrap_or_default();
    for (i, (o, &q)) in out.iter_mut().zip(rest).enumerate() {
        *o = f32::from(q) * scales.get((start + i) / cols).copied().unwrap_or(0.0);
    }
}

/// Elements `start..` of an int4 matrix with a scale per `group` elements.
pub(crate) fn widen_int4(values: &[u8], scales: &[f32], group: usize, start: usize, out: &mut [f32]) {
    let group = group.max(1);
    for (i, o) in out.iter_mut().enumerate() {
        let element = start.saturating_add(i);
        let (block, within) = (element / BLOCK, element % BLOCK);
        let Some(&byte) = values.get(block * (BLOCK / 2) + within % 16) else { return };
        let nibble = if within < 16 { byte & 15 } else { byte >> 4 };
        *o = (f32::from(nibble) - 8.0) * scales.get(element / group).copied().unwrap_or(0.0);
    }
}

/// Quantises `[rows, cols]` to int8: `values` of the same shape, `scales` `[rows]`. False, with the output unspecified,
/// where an element is infinite or NaN.
pub fn quantise_int8(from: &[f32], cols: usize, values: &mut [i8], scales: &mut [f32]) -> Result<bool, KernelError> {
    let rows = from.len().checked_div(cols).unwrap_or(0);
    expect_len("elements to quantise", from.len(), rows * cols)?;
    expect_len("int8 values", values.len(), from.len())?;
    expect_len("scales of int8 weights", scales.len(), rows)?;
    let finite = AtomicBool::new(true);
    in_parallel(from, cols, values, cols, scales, |row, values, scale| {
        let max = row.iter().fold(0f32, |max, x| if x.abs() > max { x.abs() } else { max });
        if !row.iter().all(|x| x.is_finite()) {
            finite.store(false, Ordering::Relaxed);
        }
        let (step, inverse) = steps(max, 127.0);
        *scale = step;
        for (q, &x) in values.iter_mut().zip(row) {
            *q = (((x * inverse).clamp(-127.0, 127.0) + ROUND) - ROUND) as i8;
        }
    });
    Ok(finite.into_inner())
}

/// Elements for which another thread pays.
const GRAIN: usize = 16 * 1024;

/// Calls `f` with each `each` elements of `from`, the `each_value` values and the scale that they become.
fn in_parallel<T: Send>(
    from: &[f32],
    each: usize,
    values: &mut [T],
    each_value: usize,
    scales: &mut [f32],
    f: impl Fn(&[f32], &mut [T], &mut f32) + Sync,
) {
    struct Outputs<T>(*mut T, *mut f32);
    // SAFETY: ranges of pieces have no output in common.
    unsafe impl<T: Send> Sync for Outputs<T> {}
    impl<T> Outputs<T> {
        /// # Safety
        /// The range lies within the outputs and is no other call's.
        #[allow(clippy::mut_from_ref)]
        unsafe fn part(&self, range: &Range<usize>, each: usize) -> (&mut [T], &mut [f32]) {
            // SAFETY: the caller's promise.
            unsafe {
                let values = std::slice::from_raw_parts_mut(self.0.add(range.start * each), range.len() * each);
                (values, std::slice::from_raw_parts_mut(self.1.add(range.start), range.len()))
            }
        }
    }
    let pieces = scales.len();
    let outputs = Outputs(values.as_mut_ptr(), scales.as_mut_ptr());
    parallel::for_each_range(pieces, GRAIN.div_ceil(each.max(1)), |range| {
        // SAFETY: lengths were checked; ranges do not overlap.
        let (values, scales) = unsafe { outputs.part(&range, each_value) };
        let from = &from[range.start * each..range.end * each];
        let values = values.chunks_exact_mut(each_value.max(1));
        for ((from, values), scale) in from.chunks_exact(each.max(1)).zip(values).zip(scales) {
            f(from, values, scale);
        }
    });
}

/// The size of a step when `levels` of them reach `max`, and its inverse; zeros where that is past float32's range.
fn steps(max: f32, levels: f32) -> (f32, f32) {
    let step = max / levels;
    if step.is_normal() && (1.0 / step).is_normal() {
        (step, 1.0 / step)
    } else {
        (0.0, 0.0)
    }
}

/// Scales that int4 tries, as parts of the one at which the largest magnitude is reached: cutting off the largest
/// values costs less than coarser steps for all the others.
const TRIED: [f32; 9] = [0.75, 0.8, 0.84, 0.88, 0.92, 0.95, 0.98, 1.0, 1.04];

/// Quantises `[rows, cols]` to int4: `values` half as many bytes, `scales` `[rows, cols / group]`, each the one of several
/// with the least squared error. False, with the output unspecified, where an element is infinite or NaN.
pub fn quantise_int4(from: &[f32], group: usize, values: &mut [u8], scales: &mut [f32]) -> Result<bool, KernelError> {
    if !GROUPS.contains(&group) {
        return Err(KernelError::Dimension { what: "group of int4 weights", expected: "32, 64 or 128", found: group });
    }
    expect_len("elements to quantise in whole groups", from.len(), from.len() / group * group)?;
    expect_len("int4 values", values.len(), from.len() / 2)?;
    expect_len("scales of int4 weights", scales.len(), from.len() / group)?;
    let finite = AtomicBool::new(true);
    in_parallel(from, group, values, group / 2, scales, |x, bytes, scale| {
        if !x.iter().all(|x| x.is_finite()) {
            finite.store(false, Ordering::Relaxed);
        }
        *scale = best_step(x);
        let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
        for (x, bytes) in x.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BLOCK / 2)) {
            let (low, high) = x.split_at(BLOCK / 2);
            for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = (level(low, inverse) + 8.0) as u8 | ((level(high, inverse) + 8.0) as u8) << 4;
            }
        }
    });
    Ok(finite.into_inner())
}

/// Float32 that rounds what is added to it to an integer, ties to even: quicker than a call where rounding is one.
const ROUND: f32 = 12_582_912.0;

fn level(x: f32, inverse: f32) -> f32 {
    ((x * inverse).clamp(-8.0, 7.0) + ROUND) - ROUND
}

fn best_step(x: &[f32]) -> f32 {
    let max = x.iter().fold(0f32, |max, x| if x.abs() > max { x.abs() } else { max });
    let mut best = (f32::INFINITY, 0.0);
    for part in TRIED {
        let (step, inverse) = steps(max * part, 7.0);
        let error: f32 = x
            .iter()
            .map(|&x| {
                let off = level(x, inverse) * step - x;
                off * off
            })
            .sum();
        if error < best.0 {
            best = (error, step);
        }
    }
    best.1
}
