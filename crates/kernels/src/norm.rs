//! Row-wise normalisations: T5's RMS norm and softmax.

use crate::error::{expect_len, KernelError};
use crate::parallel;

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

fn row_count(what: &'static str, elements: usize, d: usize) -> Result<usize, KernelError> {
    if d == 0 {
        return Err(KernelError::Dimension { what, expected: "1 or more", found: 0 });
    }
    if !elements.is_multiple_of(d) {
        return Err(KernelError::Shape { what, expected: elements / d * d, found: elements });
    }
    Ok(elements / d)
}

/// T5's layer norm over rows of `d`: `out = x · rsqrt(mean(x²) + eps) · weight`, without mean subtraction or bias.
/// `x` and `out` have the same length, a multiple of `d`; `weight` has `d` elements.
pub fn rms_norm(x: &[f32], d: usize, weight: &[f32], eps: f32, out: &mut [f32]) -> Result<(), KernelError> {
    row_count("rms_norm input elements, in rows of d", x.len(), d)?;
    expect_len("rms_norm weight elements", weight.len(), d)?;
    expect_len("rms_norm output elements", out.len(), x.len())?;
    parallel::for_each_row_chunk(out, d, GRAIN.div_ceil(d), |first, out| {
        for (x, out) in x[first * d..].chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            rms_norm_row(x, weight, eps, out);
        }
    });
    Ok(())
}

fn rms_norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut lanes = [0f32; 16];
    let chunks = x.chunks_exact(16);
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = x * x;
    }
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    let mean = lanes.iter().sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * (x * scale);
    }
}

/// Softmax over rows of `d`, in place, with the row's maximum subtracted first. A NaN makes its whole row NaN.
pub fn softmax_rows(x: &mut [f32], d: usize) -> Result<(), KernelError> {
    row_count("softmax elements, in rows of d", x.len(), d)?;
    parallel::for_each_row_chunk(x, d, (GRAIN / 4).div_ceil(d), |_, chunk| {
        for row in chunk.chunks_exact_mut(d) {
            softmax_row(row);
        }
    });
    Ok(())
}

pub(crate) fn softmax_row(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}
