//! Where the way back begins: a loss whose gradient is known already. Losses over a vocabulary compute their gradient
//! together with their value, chunk by chunk, so that the logits of a whole batch never exist.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use crate::error::Result;

struct Seed {
    gradient: Mutex<Option<Vec<f32>>>,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "switch-seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner).take();
        gradient.map(|g| Tensor::from_vec(g, x.shape().clone(), x.device())).transpose()
    }
}

/// A `[1]` tensor whose gradient with respect to `x` is `gradient`, once.
pub fn seed(x: &Tensor, gradient: Vec<f32>) -> Result<Tensor> {
    Ok(x.apply_op1(Seed { gradient: Mutex::new(Some(gradient)) })?)
}
