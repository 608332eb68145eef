//! T5's layer norm: `x · rsqrt(mean(x²) + eps) · weight`, no mean, no bias (reference: `SwitchTransformersLayerNorm`).

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::{flat_dims, kernel_error, values};
use crate::error::Result;

struct RmsNorm<'a> {
    weight: &'a [f32],
    eps: f32,
}

impl CustomOp1 for RmsNorm<'_> {
    fn name(&self) -> &'static str {
        "switch-rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let mut y = vec![0f32; x.len()];
        switch_kernels::rms_norm(x, self.weight.len(), self.weight, self.eps, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

/// Normalises each of `x`'s rows `[tokens, width]` by `weight` `[width]`.
pub fn rms_norm(x: &Tensor, weight: &[f32], eps: f32) -> Result<Tensor> {
    flat_dims(x)?;
    Ok(x.apply_op1_no_bwd(&RmsNorm { weight, eps })?)
}
