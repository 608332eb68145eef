//! Row-wise normalisations: T5's RMS norm and softmax.

use crate::error::{expect_len, KernelError};
use crate::math;
use crate::parallel;
use crate::simd::{self, Op, Simd};

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// Partial sums per row; their number is part of the numerical definition.
const LANES: usize = 16;

fn check_rows(what: &'static str, elements: usize, d: usize) -> Result<(), KernelError> {
    if d == 0 {
        return Err(KernelError::Dimension { what, expected: "1 or more", found: 0 });
    }
    if !elements.is_multiple_of(d) {
        return Err(KernelError::Shape { what, expected: elements / d * d, found: elements });
    }
    Ok(())
}

/// T5's layer norm over rows of `d`: `out = x · rsqrt(mean(x²) + eps) · weight`, without mean subtraction or bias.
/// `x` and `out` have the same length, a multiple of `d`; `weight` has `d` elements.
pub fn rms_norm(x: &[f32], d: usize, weight: &[f32], eps: f32, out: &mut [f32]) -> Result<(), KernelError> {
    check_rows("rms_norm input elements, in rows of d", x.len(), d)?;
    expect_len("rms_norm weight elements", weight.len(), d)?;
    expect_len("rms_norm output elements", out.len(), x.len())?;
    parallel::for_each_row_chunk(out, d, GRAIN.div_ceil(d), |first, out| {
        simd::run(RmsNorm { x: &x[first * d..first * d + out.len()], weight, eps, out });
    });
    Ok(())
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Op for RmsNorm<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let d = self.weight.len();
        for (x, out) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)) {
            let mut lanes = [0f32; LANES];
            let chunks = x.chunks_exact(LANES);
            for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
                *lane = x * x;
            }
            for chunk in chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = math::fma::<S>(x, x, *lane);
                }
            }
            let mean = sum(lanes) / d as f32;
            let scale = 1.0 / (mean + self.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = weight * (x * scale);
            }
        }
    }
}

/// Softmax over rows of `d`, in place, with the row's maximum subtracted first. A NaN makes its whole row NaN.
pub fn softmax_rows(x: &mut [f32], d: usize) -> Result<(), KernelError> {
    check_rows("softmax elements, in rows of d", x.len(), d)?;
    parallel::for_each_row_chunk(x, d, (GRAIN / 4).div_ceil(d), |_, chunk| simd::run(Softmax { x: chunk, d }));
    Ok(())
}

struct Softmax<'a> {
    x: &'a mut [f32],
    d: usize,
}

impl Op for Softmax<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.x.chunks_exact_mut(self.d) {
            let sum = exp_minus_max::<S>(row);
            for x in row {
                *x /= sum;
            }
        }
    }
}

/// Replaces each element by the exponential of its distance to the largest, and returns their sum.
#[inline(always)]
pub(crate) fn exp_minus_max<S: Simd>(row: &mut [f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = x;
    }
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for lane in lanes {
        max = max.max(lane);
    }
    // Whole chunks and the rest run through the same lanes, so that zeros behind do not change the sum.
    let mut lanes = [0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = math::exp::<S>(*x - max);
            *lane += *x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *x = math::exp::<S>(*x - max);
        *lane += *x;
    }
    sum(lanes)
}

#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
