//! Feed-forward layers with a way back: to their input, their matrices and, through the gate, the router.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use switch_kernels::training::{Dropout, FeedForwardPart};
use switch_kernels::{ExpertWeights, KernelError, Routes};

use super::tape::{apply1, apply2, Keep};
use super::{buffers, flat_dims, kernel_error, model_error, on_values, values};
use crate::config::FeedForwardActivation;
use crate::error::{ModelError, Result};
use crate::layers::{ExpertBank, FeedForward};

/// Adds the gradient of one matrix where that matrix learns.
fn add_gradient(
    weights: &FeedForward,
    part: FeedForwardPart,
    dy: &[f32],
    x: &[f32],
    n: usize,
) -> std::result::Result<(), ModelError> {
    let Some(weight) = weights.part(part) else { return Ok(()) };
    let matrix = weight.matrix()?;
    match weight.trainable() {
        Some(trainable) => trainable.add_linear(weight.precision(), dy, x, n, matrix.rows, matrix.cols),
        None => Ok(()),
    }
}

fn of_expert(expert: usize, error: ModelError) -> KernelError {
    KernelError::Weights { expert, reason: error.message }
}

/// What a layer keeps of `n` tokens at most.
fn hidden_len(n: usize, weights: &ExpertWeights<'_>) -> usize {
    n.saturating_mul(weights.wi.rows).saturating_mul(if weights.wi_1.is_some() { 2 } else { 1 })
}

struct TrainedDense {
    weights: FeedForward,
    act: FeedForwardActivation,
    dropout: Dropout,
    hidden: Mutex<Vec<f32>>,
    #[cfg(feature = "cuda")]
    device: Mutex<Option<crate::cuda::Hidden>>,
}

impl CustomOp1 for TrainedDense {
    fn name(&self) -> &'static str {
        "switch-feed-forward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (n, d) = layout.shape().dims2()?;
        let weights = self.weights.weights().map_err(model_error)?;
        let mut hidden = buffers::take(hidden_len(n, &weights)).map_err(model_error)?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        let (precision, act) = (self.weights.precision(), self.act.activation);
        switch_kernels::training::feed_forward_train(
            precision,
            x,
            n,
            d,
            &weights,
            act,
            &self.dropout,
            &mut hidden,
            &mut y,
        )
        .map_err(kernel_error)?;
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = hidden;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let (weights, act) = (&self.weights, self.act.activation);
        let (y, shape, hidden) = crate::cuda::dense_train(weights, act, &self.dropout, storage, layout)?;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(hidden);
        Ok((y, shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if let Some(hidden) = self.device.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let (weights, act) = (&self.weights, self.act.activation);
            return Ok(Some(crate::cuda::dense_backward(weights, act, &self.dropout, &hidden, x, dy)?));
        }
        let (n, d) = x.dims2()?;
        let weights = self.weights.weights().map_err(model_error)?;
        let hidden = std::mem::take(&mut *self.hidden.lock().unwrap_or_else(PoisonError::into_inner));
        let (precision, act) = (self.weights.precision(), self.act.activation);
        let mut dx = buffers::take(n * d).map_err(model_error)?;
        on_values(x, |x| {
            on_values(dy, |dy| {
                let mut sink = |part, dy: &[f32], x: &[f32], n| {
                    add_gradient(&self.weights, part, dy, x, n).map_err(|e| of_expert(0, e))
                };
                switch_kernels::training::feed_forward_backward(
                    precision,
                    x,
                    n,
                    d,
                    &weights,
                    act,
                    &self.dropout,
                    &hidden,
                    dy,
                    Some(&mut dx),
                    &mut sink,
                )
                .map_err(kernel_error)
            })
        })?;
        buffers::give(hidden);
        Ok(Some(Tensor::from_vec(dx, x.shape().clone(), x.device())?))
    }
}

/// As `feed_forward`, tracked, with dropout before the second product.
pub fn trained_feed_forward(
    x: &Tensor,
    weights: &FeedForward,
    act: FeedForwardActivation,
    dropout: Dropout,
) -> Result<Tensor> {
    flat_dims(x)?;
    let op = TrainedDense {
        weights: weights.clone(),
        act,
        dropout,
        hidden: Mutex::default(),
        #[cfg(feature = "cuda")]
        device: Mutex::default(),
    };
    apply1(x, op, Keep::Inputs)
}

struct TrainedSparse {
    bank: Arc<ExpertBank>,
    layer: usize,
    routes: Routes,
    act: FeedForwardActivation,
    dropout: Dropout,
    hidden: Mutex<Vec<f32>>,
    #[cfg(feature = "cuda")]
    device: Mutex<Option<crate::cuda::Kept>>,
}

impl TrainedSparse {
    #[cfg(feature = "cuda")]
    fn step(&self) -> crate::cuda::SparseStep<'_> {
        crate::cuda::SparseStep {
            bank: &self.bank,
            layer: self.layer,
            routes: &self.routes,
            act: self.act.activation,
            dropout: &self.dropout,
        }
    }

    fn expert(&self, index: usize) -> std::result::Result<ExpertWeights<'_>, KernelError> {
        self.bank.expert(self.layer, index).and_then(FeedForward::weights).map_err(|e| of_expert(index, e))
    }

    fn precision(&self) -> switch_kernels::Precision {
        self.bank.expert(self.layer, 0).map(FeedForward::precision).unwrap_or_default()
    }
}

impl CustomOp2 for TrainedSparse {
    fn name(&self) -> &'static str {
        "switch-experts"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (n, d) = layout.shape().dims2()?;
        let weights = self.expert(0).map_err(kernel_error)?;
        let mut hidden = buffers::take(hidden_len(n, &weights)).map_err(model_error)?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        switch_kernels::training::experts_train(
            self.precision(),
            x,
            n,
            d,
            &self.routes,
            self.act.activation,
            &self.dropout,
            &|index| self.expert(index),
            &mut hidden,
            &mut y,
        )
        .map_err(kernel_error)?;
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = hidden;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
        _: &candle_core::CudaStorage,
        logits: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let (y, shape, kept) = self.step().forward(storage, layout, logits.shape().dims2()?.1)?;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        logits: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if let Some(kept) = self.device.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let [dx, dlogits] = self.step().backward(&kept, x, logits, dy)?;
            return Ok((Some(dx), Some(dlogits)));
        }
        let (n, d) = x.dims2()?;
        let hidden = std::mem::take(&mut *self.hidden.lock().unwrap_or_else(PoisonError::into_inner));
        let mut dx = buffers::take(n * d).map_err(model_error)?;
        let mut dgate = vec![0f32; n];
        on_values(x, |x| {
            on_values(dy, |dy| {
                let sink = |expert: usize, part, dy: &[f32], x: &[f32], n| {
                    self.bank
                        .expert(self.layer, expert)
                        .and_then(|weights| add_gradient(weights, part, dy, x, n))
                        .map_err(|e| of_expert(expert, e))
                };
                switch_kernels::training::experts_backward(
                    self.precision(),
                    x,
                    n,
                    d,
                    &self.routes,
                    self.act.activation,
                    &self.dropout,
                    &|index| self.expert(index),
                    &hidden,
                    dy,
                    &mut dx,
                    &mut dgate,
                    &sink,
                )
                .map_err(kernel_error)
            })
        })?;
        buffers::give(hidden);
        let experts = logits.dim(1)?;
        let mut dlogits = vec![0f32; n * experts];
        on_values(logits, |logits| {
            switch_kernels::training::route_backward(logits, experts, &self.routes, &dgate, &mut dlogits)
                .map_err(kernel_error)
        })?;
        let dx = Tensor::from_vec(dx, x.shape().clone(), x.device())?;
        Ok((Some(dx), Some(Tensor::from_vec(dlogits, logits.shape().clone(), logits.device())?)))
    }
}

/// As `sparse_feed_forward`, tracked, also through the gate to the router's `logits` `[tokens, experts]`.
pub fn trained_sparse_feed_forward(
    x: &Tensor,
    logits: &Tensor,
    bank: &Arc<ExpertBank>,
    layer: usize,
    routes: &Routes,
    act: FeedForwardActivation,
    dropout: Dropout,
) -> Result<Tensor> {
    flat_dims(x)?;
    let op = TrainedSparse {
        bank: Arc::clone(bank),
        layer,
        routes: routes.clone(),
        act,
        dropout,
        hidden: Mutex::default(),
        #[cfg(feature = "cuda")]
        device: Mutex::default(),
    };
    apply2(x, logits, op, Keep::Inputs)
}
