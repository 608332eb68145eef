//! Token embeddings.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};

use super::tape::begin;
use super::{buffers, model_error, on_values};
use crate::error::Result;
use crate::weight::Weight;

/// `table` `[vocab_size, width]` at `ids` → `[ids.len(), width]` on `device`. An id outside the table is `INVALID_INPUT`.
pub fn embedding(table: &Weight, ids: &[u32], device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return crate::cuda::embedding(device, table, ids);
    }
    let width = table.matrix()?.cols;
    Ok(Tensor::from_vec(looked_up(table, ids)?, (ids.len(), width), device)?)
}

fn looked_up(table: &Weight, ids: &[u32]) -> Result<Vec<f32>> {
    let matrix = table.matrix()?;
    let mut out = buffers::take(ids.len() * matrix.cols)?;
    switch_kernels::embedding(matrix, ids, &mut out)?;
    Ok(out)
}

struct TrainedEmbedding {
    table: Weight,
    ids: Vec<u32>,
}

impl CustomOp1 for TrainedEmbedding {
    fn name(&self) -> &'static str {
        "switch-embedding"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let width = self.table.matrix().map_err(model_error)?.cols;
        let out = looked_up(&self.table, &self.ids).map_err(model_error)?;
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::embedding_storage(storage, &self.table, &self.ids)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if dy.device().is_cuda() && crate::cuda::embedding_backward(&self.table, &self.ids, dy).map_err(model_error)? {
            return Ok(None);
        }
        if let Some(trainable) = self.table.trainable() {
            let width = self.table.matrix().map_err(model_error)?.cols;
            on_values(dy, |dy| {
                trainable
                    .add(|dtable| Ok(switch_kernels::training::embedding_backward(dy, &self.ids, width, dtable)?))
                    .map_err(model_error)
            })?;
        }
        Ok(None)
    }
}

/// [`embedding`] with a way back: the beginning of what is tracked.
pub fn trained_embedding(table: &Weight, ids: &[u32], device: &Device) -> Result<Tensor> {
    let nothing = Tensor::from_slice(&[0f32], 1, device)?;
    begin(&nothing, TrainedEmbedding { table: table.clone(), ids: ids.to_vec() })
}
