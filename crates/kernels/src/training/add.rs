//! Sums of activations and of their gradients.

use crate::error::{expect_len, KernelError};
use crate::parallel;

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// `out = a + b`, elementwise; `out` is overwritten.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    expect_len("elements of the second summand", b.len(), a.len())?;
    expect_len("elements of a sum", out.len(), a.len())?;
    parallel::for_each_row_chunk(out, 1, GRAIN, |first, out| {
        let (a, b) = (&a[first..][..out.len()], &b[first..][..out.len()]);
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    });
    Ok(())
}

/// `to += from`, elementwise.
pub fn add_to(to: &mut [f32], from: &[f32]) -> Result<(), KernelError> {
    expect_len("elements of the second summand", from.len(), to.len())?;
    parallel::for_each_row_chunk(to, 1, GRAIN, |first, to| {
        for (to, from) in to.iter_mut().zip(&from[first..]) {
            *to += from;
        }
    });
    Ok(())
}
