//! Inverted dropout. The mask follows from the seed, so that the way back (and a block that is computed again) draws the same.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use switch_kernels::training::Dropout;

use super::tape::{apply1, Keep};
use super::{buffers, model_error, on_values, values};
use crate::error::Result;

struct Op {
    dropout: Dropout,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "switch-dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let mut y = buffers::take(x.len()).map_err(model_error)?;
        switch_kernels::training::dropout(&self.dropout, x, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::pointwise(storage, layout, |launches, x, n, y| {
            switch_kernels::cuda::dropout(launches, x, &self.dropout, n, y)
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if dy.device().is_cuda() {
            // Its own way back.
            return Ok(Some(dy.apply_op1_no_bwd(self)?));
        }
        let mut dx = buffers::take(dy.elem_count()).map_err(model_error)?;
        on_values(dy, |dy| {
            switch_kernels::training::dropout(&self.dropout, dy, &mut dx);
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dx, dy.shape().clone(), dy.device())?))
    }
}

/// `x` with some elements zero and the others scaled up; `x` itself at rate 0.
pub fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    match dropout.rate > 0.0 {
        true => apply1(x, Op { dropout }, Keep::Nothing),
        false => Ok(x.clone()),
    }
}
