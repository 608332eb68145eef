//! Fused optimiser steps over one parameter, in place, and what clipping needs.

use super::shared::Shared;
use crate::error::{expect_len, KernelError};
use crate::parallel;
use crate::simd::{self, Op, Simd};

mod adafactor;
mod adamw;

pub use adafactor::{adafactor_step, Adafactor, AdafactorState};
pub use adamw::{adamw_step, AdamW};

/// Elements of a partial sum: part of the numerical definition.
const PART: usize = 8 * 1024;

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// The sum of squares, in an order that does not depend on the threads.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    sum_in_parts(x.len(), |range| simd::run(Squares { x: &x[range] }))
}

/// Adds what `f` gives for each part of `0..len`, in order.
fn sum_in_parts(len: usize, f: impl Fn(std::ops::Range<usize>) -> f64 + Sync) -> f64 {
    let mut sums = vec![0f64; len.div_ceil(PART)];
    let shared = Shared::new(&mut sums);
    parallel::for_each_range(len.div_ceil(PART), GRAIN / PART, |parts| {
        for part in parts {
            // SAFETY: parts do not overlap.
            *unsafe { shared.at(part) } = f(part * PART..((part + 1) * PART).min(len));
        }
    });
    sums.iter().sum()
}

struct Squares<'a> {
    x: &'a [f32],
}

impl Op for Squares<'_> {
    type Out = f64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let mut lanes = [0f64; 16];
        let chunks = self.x.chunks_exact(16);
        for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = f64::from(x) * f64::from(x);
        }
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        lanes.iter().sum()
    }
}

/// Whether no element is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    // Sums of finite numbers may overflow; of their products with 0 not.
    sum_in_parts(x.len(), |range| if x[range].iter().all(|x| x.is_finite()) { 0.0 } else { 1.0 }) == 0.0
}

/// Multiplies each element by `factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    parallel::for_each_row_chunk(x, 1, GRAIN, |_, x| x.iter_mut().for_each(|x| *x *= factor));
}

/// Checks that all slices belong to a parameter of `len` elements.
fn check_lengths(len: usize, slices: &[(&'static str, usize)]) -> Result<(), KernelError> {
    slices.iter().try_for_each(|&(what, found)| expect_len(what, found, len))
}
