//! Kernels as candle custom ops: one file each, with its CPU forward now and its CUDA forward and backward beside it
//! as they come. Activations are flat, `[tokens, width]`, float32 and contiguous; rows of a batch may differ in length.

mod add;
mod attention;
mod embedding;
mod linear;
mod rms_norm;
mod sparse;

pub use add::add;
pub use attention::{attention, attention_weights, cached_attention, CachedRow, RowSpan};
pub use embedding::embedding;
pub use linear::linear;
pub use rms_norm::rms_norm;
pub use sparse::{feed_forward, sparse_feed_forward};

use candle_core::{CpuStorage, Layout, Tensor};

use crate::error::{ModelError, Result};

/// The float32 values of a contiguous operand.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("operand is not contiguous".into()))?;
    all.get(start..end).ok_or_else(|| candle_core::Error::Msg("operand is shorter than its shape".into()))
}

fn kernel_error(error: switch_kernels::KernelError) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}

/// `[tokens, width]` of a flat activation.
pub fn flat_dims(x: &Tensor) -> Result<(usize, usize)> {
    x.dims2().map_err(|_| ModelError::internal(format!("expected [tokens, width], found {:?}", x.dims())))
}
