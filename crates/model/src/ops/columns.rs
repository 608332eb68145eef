//! Some columns of a flat activation.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::tape::{apply1, Keep};
use super::{on_values, values};
use crate::error::Result;

struct Columns {
    start: usize,
    len: usize,
    width: usize,
}

impl CustomOp1 for Columns {
    fn name(&self) -> &'static str {
        "switch-columns"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let rows = x.chunks_exact(self.width.max(1));
        let y: Vec<f32> = rows.flat_map(|row| row.iter().skip(self.start).take(self.len).copied()).collect();
        let tokens = y.len() / self.len.max(1);
        Ok((CpuStorage::F32(y), Shape::from((tokens, self.len))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::columns(storage, layout, self.start, self.len)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if dy.device().is_cuda() {
            return Ok(Some(crate::cuda::spread(&[(dy, self.start)], self.width)?));
        }
        let tokens = dy.dim(0)?;
        let mut dx = vec![0f32; tokens * self.width];
        on_values(dy, |dy| {
            for (to, from) in dx.chunks_exact_mut(self.width.max(1)).zip(dy.chunks_exact(self.len.max(1))) {
                to.iter_mut().skip(self.start).zip(from).for_each(|(to, from)| *to = *from);
            }
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dx, (tokens, self.width), dy.device())?))
    }
}

/// Columns `start..start + len` of `x` `[tokens, width]`.
pub fn columns(x: &Tensor, start: usize, len: usize) -> Result<Tensor> {
    let width = x.dim(1)?;
    apply1(x, Columns { start, len, width }, Keep::Nothing)
}
