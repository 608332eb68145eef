//! The choice of tokens on the device: `kernels/sample.cu`.

use super::{int, push, Address, Launches};
use crate::error::KernelError;

/// How a token is chosen from a row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// `[rows]` float64 from 0 up to 1; 0 (none): the largest logit, the lowest id among equals.
    pub uniforms: Address,
    pub temperature: f32,
    /// 0: all.
    pub top_k: usize,
    /// 1: all.
    pub top_p: f64,
}

/// `sizeof(Choice)` of the kernel.
const SHARED: u32 = 11_440;

/// A token per row of `logits` `[rows, n]` to `out` (32 bits with a sign); -1 where there is none to choose: NaN, or to be
/// drawn from scores that are all minus infinity, or one plus infinity. `scores` `[rows, n]` is scratch.
pub fn sample_rows(
    launches: &mut Launches,
    logits: Address,
    sampling: &Sampling,
    rows: usize,
    n: usize,
    scores: Address,
    out: Address,
) -> Result<(), KernelError> {
    let arguments = vec![
        logits.into(),
        sampling.uniforms.into(),
        sampling.temperature.into(),
        int("top_k", sampling.top_k.min(n))?.into(),
        sampling.top_p.into(),
        int("columns", n)?.into(),
        scores.into(),
        out.into(),
    ];
    push(launches, "sample_rows", [int("rows", rows)? as u32, 1, 1], 512, SHARED, arguments);
    Ok(())
}
