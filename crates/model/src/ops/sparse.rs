//! Feed-forward layers: dense, and sparse over a bank of experts.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use switch_kernels::{ExpertWeights, KernelError, Routes};

use super::{buffers, flat_dims, kernel_error, model_error, values};
use crate::config::FeedForwardActivation;
use crate::error::Result;
use crate::layers::{ExpertBank, FeedForward};

struct Dense<'a> {
    weights: &'a FeedForward,
    act: FeedForwardActivation,
}

impl CustomOp1 for Dense<'_> {
    fn name(&self) -> &'static str {
        "switch-feed-forward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (tokens, width) = layout.shape().dims2()?;
        let weights = self.weights.weights().map_err(|e| candle_core::Error::Msg(e.to_string()))?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        let precision = self.weights.precision();
        switch_kernels::feed_forward_with(precision, x, tokens, width, &weights, self.act.activation, &mut y)
            .map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::feed_forward(self.weights, self.act.activation, storage, layout)
    }
}

/// `act(x · wiᵀ) · woᵀ`, or the gated form.
pub fn feed_forward(x: &Tensor, weights: &FeedForward, act: FeedForwardActivation) -> Result<Tensor> {
    flat_dims(x)?;
    Ok(x.apply_op1_no_bwd(&Dense { weights, act })?)
}

struct Sparse<'a> {
    bank: &'a ExpertBank,
    layer: usize,
    routes: &'a Routes,
    act: FeedForwardActivation,
}

impl CustomOp1 for Sparse<'_> {
    fn name(&self) -> &'static str {
        "switch-experts"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (tokens, width) = layout.shape().dims2()?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        let expert = |index: usize| -> std::result::Result<ExpertWeights<'_>, KernelError> {
            self.bank
                .expert(self.layer, index)
                .and_then(|e| e.weights())
                .map_err(|e| KernelError::Weights { expert: index, reason: e.message })
        };
        let precision = self.bank.expert(self.layer, 0).map(FeedForward::precision).unwrap_or_default();
        switch_kernels::experts_with(precision, x, tokens, width, self.routes, self.act.activation, &expert, &mut y)
            .map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

/// Each token through its expert, scaled by the router's probability; zero for dropped tokens.
pub fn sparse_feed_forward(
    x: &Tensor,
    bank: &ExpertBank,
    layer: usize,
    routes: &Routes,
    act: FeedForwardActivation,
) -> Result<Tensor> {
    flat_dims(x)?;
    Ok(x.apply_op1_no_bwd(&Sparse { bank, layer, routes, act })?)
}
