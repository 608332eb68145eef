//! A product with one number.

use candle_core::Tensor;

use crate::error::Result;

/// `factor · x`
pub fn scale(x: &Tensor, factor: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(x.apply_op1_no_bwd(&on_cuda::Scale { factor: factor as f32 })?);
    }
    Ok((x * factor)?)
}

#[cfg(feature = "cuda")]
mod on_cuda {
    use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Shape};

    pub struct Scale {
        pub factor: f32,
    }

    impl CustomOp1 for Scale {
        fn name(&self) -> &'static str {
            "switch-scale"
        }

        fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
            Err(candle_core::Error::Msg("this op runs on CUDA only".into()))
        }

        fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
            crate::cuda::pointwise(storage, layout, |launches, x, n, y| {
                switch_kernels::cuda::scale(launches, x, self.factor, n, y)
            })
        }
    }
}
