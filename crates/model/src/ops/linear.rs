//! `y = x · wᵀ` over a stored weight.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::{flat_dims, kernel_error, values};
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
        let weight = self.weight.matrix().map_err(|e| candle_core::Error::Msg(e.to_string()))?;
        let mut y = vec![0f32; self.tokens * self.out_features];
        switch_kernels::linear(x, self.tokens, weight, &mut y).map_err(kernel_error)?;
        Ok((CpuStorage::F32(y), Shape::from((self.tokens, self.out_features))))
    }
}

/// `x` `[tokens, in_features]`, `weight` `[out_features, in_features]` → `[tokens, out_features]`.
pub fn linear(x: &Tensor, weight: &Weight) -> Result<Tensor> {
    let (tokens, width) = flat_dims(x)?;
    let &[out_features, in_features] = weight.shape() else {
        return Err(ModelError::internal(format!("linear over a weight of shape {:?}", weight.shape())));
    };
    if width != in_features {
        return Err(ModelError::input(format!("found vectors of width {width}, expected {in_features}")));
    }
    Ok(x.apply_op1_no_bwd(&Linear { weight, tokens, out_features })?)
}
