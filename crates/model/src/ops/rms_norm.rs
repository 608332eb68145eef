//! T5's layer norm: `x · rsqrt(mean(x²) + eps) · weight`, no mean, no bias (reference: `SwitchTransformersLayerNorm`).

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, tracked, Keep};
use super::{buffers, flat_dims, kernel_error, model_error, on_values, values};
use crate::error::Result;
use crate::weight::Weight;

struct RmsNorm<'a> {
    weight: &'a Weight,
    eps: f32,
}

impl CustomOp1 for RmsNorm<'_> {
    fn name(&self) -> &'static str {
        "switch-rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let weight = self.weight.as_f32().map_err(model_error)?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        switch_kernels::rms_norm(x, weight.len(), weight, self.eps, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::rms_norm(self.weight, self.eps, storage, layout)
    }
}

struct TrainedRmsNorm {
    weight: Weight,
    eps: f32,
}

impl CustomOp1 for TrainedRmsNorm {
    fn name(&self) -> &'static str {
        "switch-rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        RmsNorm { weight: &self.weight, eps: self.eps }.cpu_fwd(storage, layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::rms_norm(&self.weight, self.eps, storage, layout)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if dy.device().is_cuda() {
            return Ok(Some(crate::cuda::rms_norm_backward(&self.weight, self.eps, x, dy)?));
        }
        let weight = self.weight.as_f32().map_err(model_error)?;
        let mut dx = buffers::take(x.elem_count()).map_err(model_error)?;
        on_values(x, |x| {
            on_values(dy, |dy| match self.weight.trainable() {
                Some(trainable) => trainable
                    .add(|dw| {
                        Ok(switch_kernels::training::rms_norm_backward(
                            x,
                            weight.len(),
                            weight,
                            self.eps,
                            dy,
                            &mut dx,
                            Some(dw),
                        )?)
                    })
                    .map_err(model_error),
                None => {
                    switch_kernels::training::rms_norm_backward(x, weight.len(), weight, self.eps, dy, &mut dx, None)
                        .map_err(kernel_error)
                }
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape().clone(), x.device())?))
    }
}

/// Normalises each of `x`'s rows `[tokens, width]` by `weight` `[width]`.
pub fn rms_norm(x: &Tensor, weight: &Weight, eps: f32) -> Result<Tensor> {
    flat_dims(x)?;
    match tracked(x) {
        true => apply1(x, TrainedRmsNorm { weight: weight.clone(), eps }, Keep::Inputs),
        false => Ok(x.apply_op1_no_bwd(&RmsNorm { weight, eps })?),
    }
}
