//! Router jitter (paper, appendix C): the router's input times uniform noise around 1. Only the router's: in the reference
//! the noise reaches the expert's input too, which the paper does not mean.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, Keep};
use super::{on_values, values};
use crate::error::Result;

struct Jitter {
    noise: f32,
    seed: u64,
}

impl Jitter {
    /// Multiplies each value by its own factor from `1 - noise` to `1 + noise`.
    fn apply(&self, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let bits = crate::training::mix(self.seed, i as u64) >> 40;
            let uniform = bits as f32 * (1.0 / (1u32 << 24) as f32);
            *value *= 1.0 - self.noise + 2.0 * self.noise * uniform;
        }
    }
}

impl CustomOp1 for Jitter {
    fn name(&self) -> &'static str {
        "switch-jitter"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = values(storage, layout)?.to_vec();
        self.apply(&mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::pointwise(storage, layout, |launches, x, n, y| {
            switch_kernels::cuda::jitter(launches, x, self.noise, self.seed, n, y)
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if dy.device().is_cuda() {
            // Its own way back.
            return Ok(Some(dy.apply_op1_no_bwd(self)?));
        }
        let mut dx = on_values(dy, |dy| Ok(dy.to_vec()))?;
        self.apply(&mut dx);
        Ok(Some(Tensor::from_vec(dx, dy.shape().clone(), dy.device())?))
    }
}

/// `x` with noise drawn from `seed`; `x` itself without noise.
pub fn jitter(x: &Tensor, noise: f32, seed: u64) -> Result<Tensor> {
    match noise > 0.0 {
        true => apply1(x, Jitter { noise, seed }, Keep::Nothing),
        false => Ok(x.clone()),
    }
}
