//! `y = x · wᵀ` over a stored weight.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, tracked, Keep};
use super::{buffers, flat_dims, kernel_error, model_error, on_values, values};
use crate::error::{ModelError, Result};
use crate::weight::Weight;

struct Linear<'a> {
    weight: &'a Weight,
    tokens: usize,
    out_features: usize,
}

impl CustomOp1 for Linear<'_> {
    fn name(&self) -> &'static str {
        "switch-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let weight = self.weight.matrix().map_err(model_error)?;
        let mut y = buffers::take(self.tokens * self.out_features).map_err(model_error)?;
        switch_kernels::linear_with(self.weight.precision(), x, self.tokens, weight, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), Shape::from((self.tokens, self.out_features))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::linear(self.weight, storage, layout)
    }
}

/// Several weights of one shape over the same input, one after another in the result.
struct Together<'a> {
    weights: &'a [&'a Weight],
    tokens: usize,
    out_features: usize,
}

impl CustomOp1 for Together<'_> {
    fn name(&self) -> &'static str {
        "switch-linear-together"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let weights = self.weights.iter().map(|w| w.matrix()).collect::<Result<Vec<_>>>().map_err(model_error)?;
        let precision = self.weights.first().map(|w| w.precision()).unwrap_or_default();
        let mut y = vec![0f32; weights.len() * self.tokens * self.out_features];
        switch_kernels::linear_together(precision, x, self.tokens, &weights, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), Shape::from((weights.len(), self.tokens, self.out_features))))
    }
}

/// The same with a way back: to `x`, and to the weight where it learns.
struct TrainedLinear {
    weight: Weight,
    /// Where the gradient goes, when what is multiplied by is a rounded copy.
    master: Weight,
}

impl CustomOp1 for TrainedLinear {
    fn name(&self) -> &'static str {
        "switch-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, weight) = (values(storage, layout)?, self.weight.matrix().map_err(model_error)?);
        let (tokens, _) = layout.shape().dims2()?;
        let mut y = buffers::take(tokens * weight.rows).map_err(model_error)?;
        let precision = self.weight.precision();
        switch_kernels::training::linear_train(precision, x, tokens, weight, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), Shape::from((tokens, weight.rows))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::linear(&self.weight, storage, layout)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if dy.device().is_cuda() {
            return Ok(Some(crate::cuda::linear_backward(&self.weight, &self.master, x, dy)?));
        }
        let weight = self.weight.matrix().map_err(model_error)?;
        let (tokens, precision) = (x.dim(0)?, self.weight.precision());
        let mut dx = buffers::take(tokens * weight.cols).map_err(model_error)?;
        on_values(dy, |dy| {
            switch_kernels::training::linear_backward_input(precision, dy, tokens, weight, &mut dx)
                .map_err(kernel_error)?;
            if let Some(trainable) = self.master.trainable() {
                on_values(x, |x| {
                    trainable.add_linear(precision, dy, x, tokens, weight.rows, weight.cols).map_err(model_error)
                })?;
            }
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape().clone(), x.device())?))
    }
}

/// `x` `[tokens, in_features]`, `weight` `[out_features, in_features]` → `[tokens, out_features]`.
pub fn linear(x: &Tensor, weight: &Weight) -> Result<Tensor> {
    linear_of_rounded(x, weight, weight)
}

/// [`linear`] through `weight`, a rounded form of `master`, which takes the gradient.
pub fn linear_of_rounded(x: &Tensor, weight: &Weight, master: &Weight) -> Result<Tensor> {
    let (tokens, width) = flat_dims(x)?;
    let &[out_features, in_features] = weight.shape() else {
        return Err(ModelError::internal(format!("linear over a weight of shape {:?}", weight.shape())));
    };
    if width != in_features {
        return Err(ModelError::input(format!("found vectors of width {width}, expected {in_features}")));
    }
    match tracked(x) {
        true => apply1(x, TrainedLinear { weight: weight.clone(), master: master.clone() }, Keep::Inputs),
        false => Ok(x.apply_op1_no_bwd(&Linear { weight, tokens, out_features })?),
    }
}

/// [`linear`] of the same `x` through each of `weights`.
pub fn linears<const N: usize>(x: &Tensor, weights: [&Weight; N]) -> Result<[Tensor; N]> {
    linears_of(x, &weights)?.try_into().map_err(|_| ModelError::internal("a projection is missing"))
}

/// As [`linears`], of any number.
pub fn linears_of(x: &Tensor, weights: &[&Weight]) -> Result<Vec<Tensor>> {
    let (tokens, width) = flat_dims(x)?;
    let Some(first) = weights.first() else { return Ok(Vec::new()) };
    let alike = weights.iter().all(|w| w.shape() == first.shape() && w.precision() == first.precision());
    match first.shape() {
        &[out_features, in_features] if alike && in_features == width && x.device().is_cpu() => {
            if tracked(x) {
                let weights = weights.iter().map(|w| (*w).clone()).collect();
                return super::linears_training::trained_linears(x, weights);
            }
            let all = x.apply_op1_no_bwd(&Together { weights, tokens, out_features })?;
            (0..weights.len()).map(|index| Ok(all.get(index)?)).collect()
        }
        _ => weights.iter().map(|weight| linear(x, weight)).collect(),
    }
}
