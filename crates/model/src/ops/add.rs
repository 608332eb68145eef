//! The residual sum. candle's own addition wakes a pool of threads that spins between calls: 5 % of an encoder pass.

use candle_core::{CpuStorage, CustomOp2, InplaceOp2, Layout, Shape, Tensor};

use super::tape::{apply2, apply_in_place, recording, Keep};
use super::{buffers, kernel_error, model_error, values};
use crate::error::Result;

struct Add;

fn check(l1: &Layout, l2: &Layout) -> candle_core::Result<()> {
    match l1.shape() == l2.shape() {
        true => Ok(()),
        false => Err(candle_core::Error::Msg(format!("cannot add {:?} to {:?}", l2.shape(), l1.shape()))),
    }
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "switch-add"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        check(l1, l2)?;
        let (a, b) = (values(s1, l1)?, values(s2, l2)?);
        let mut sum = buffers::take(a.len()).map_err(model_error)?;
        switch_kernels::training::add(a, b, &mut sum).map_err(kernel_error)?;
        Ok((CpuStorage::F32(sum), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::add((s1, l1), (s2, l2))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), Some(gradient.clone())))
    }
}

/// Adds to the first tensor.
struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "switch-add-to"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        check(l1, l2)?;
        let from = values(s2, l2)?;
        let CpuStorage::F32(to) = s1 else { return Err(candle_core::Error::Msg("expected float32".into())) };
        let range = l1.contiguous_offsets().and_then(|(start, end)| to.get_mut(start..end));
        let to = range.ok_or_else(|| candle_core::Error::Msg("operand is not contiguous".into()))?;
        switch_kernels::training::add_to(to, from).map_err(kernel_error)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &mut candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> candle_core::Result<()> {
        check(l1, l2)?;
        crate::cuda::add_to((s1, l1), (s2, l2))
    }
}

/// `a + b`, of equal shapes.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply2(a, b, Add, Keep::Nothing)
}

/// `a + b` in the place of `b`, where that is a result that nothing on the tape reads, or nothing is recorded and `b` is in
/// host memory, and else as [`add`]. Whoever holds
/// another handle of `b` sees the sum.
pub fn add_in_place(a: &Tensor, b: Tensor) -> Result<Tensor> {
    if !recording() && b.device().is_cpu() {
        add_to(&b, a)?;
        return Ok(b);
    }
    match apply_in_place(a, &b, Add, || Ok(b.inplace_op2(a, &AddTo)?))? {
        true => Ok(b),
        false => add(a, &b),
    }
}

/// `to += from`; nobody else reads `to`.
pub(super) fn add_to(to: &Tensor, from: &Tensor) -> Result<()> {
    Ok(to.inplace_op2(from, &AddTo)?)
}
