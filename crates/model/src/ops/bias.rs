//! A bias per column: the router's, where the config gives it one.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, Keep};
use super::{model_error, on_values, values};
use crate::error::Result;
use crate::weight::Weight;

struct AddBias {
    bias: Weight,
}

impl CustomOp1 for AddBias {
    fn name(&self) -> &'static str {
        "switch-add-bias"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let bias = self.bias.as_f32().map_err(model_error)?;
        let width = layout.shape().dims2()?.1;
        if bias.len() != width {
            return Err(candle_core::Error::Msg(format!("a bias of {} for {width} columns", bias.len())));
        }
        let x = values(storage, layout)?;
        let y = x.chunks_exact(width.max(1)).flat_map(|row| row.iter().zip(bias).map(|(x, b)| x + b)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::add_bias(&self.bias, storage, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if let Some(trainable) = self.bias.trainable() {
            on_values(dy, |dy| {
                let add = |gradient: &mut [f32]| {
                    for row in dy.chunks_exact(gradient.len().max(1)) {
                        gradient.iter_mut().zip(row).for_each(|(g, dy)| *g += dy);
                    }
                    Ok(())
                };
                trainable.add(add).map_err(model_error)
            })?;
        }
        Ok(Some(dy.clone()))
    }
}

/// `x` `[tokens, width]` plus `bias` `[width]`.
pub fn add_bias(x: &Tensor, bias: &Weight) -> Result<Tensor> {
    apply1(x, AddBias { bias: bias.clone() }, Keep::Nothing)
}
