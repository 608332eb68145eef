//! Rounding to the router's type. The gradient passes as if nothing had happened, as through a cast in the reference.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, Keep};
use super::values;
use crate::config::RouterDtype;
use crate::error::Result;
use crate::routing::round_to;

struct Round {
    dtype: RouterDtype,
}

impl CustomOp1 for Round {
    fn name(&self) -> &'static str {
        "switch-round"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = values(storage, layout)?.to_vec();
        round_to(self.dtype, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let rounding = crate::routing::rounding(self.dtype);
        crate::cuda::pointwise(storage, layout, |launches, x, n, y| {
            switch_kernels::cuda::round_to(launches, x, rounding, n, y)
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(dy.clone()))
    }
}

/// `x` rounded to `dtype`; `x` itself for float32.
pub fn round(x: &Tensor, dtype: RouterDtype) -> Result<Tensor> {
    match dtype {
        RouterDtype::Float32 => Ok(x.clone()),
        _ => apply1(x, Round { dtype }, Keep::Nothing),
    }
}
