//! Kernels as candle custom ops: one file each, with its forward and its backward pass. An op on a tensor that is
//! tracked (`tape`) keeps what its way back needs; gradients of weights are added where the weight is
//! (`training::Trainable`), those of activations go back along the tape. Activations are flat, `[tokens, width]`, float32 and contiguous; rows of a batch may differ in length.

mod add;
mod attention;
mod attention_training;
mod bias;
pub mod buffers;
mod columns;
mod dropout;
mod embedding;
mod jitter;
mod linear;
mod linears_training;
mod rms_norm;
mod round;
mod scale;
mod sparse;
mod sparse_training;
mod tape;

#[cfg(feature = "cuda")]
pub use crate::cuda::select as select_on_cuda;
pub use add::{add, add_in_place};
pub use attention::{attention, attention_weights, cached_attention, CachedRow, RowSpan};
pub use attention_training::trained_attention;
pub use bias::add_bias;
pub use columns::columns;
pub use dropout::dropout;
pub use embedding::{embedding, trained_embedding};
pub use jitter::jitter;
pub use linear::{linear, linear_of_rounded, linears, linears_of};
pub use rms_norm::rms_norm;
pub use round::round;
pub use scale::scale;
pub use sparse::{feed_forward, sparse_feed_forward};
pub use sparse_training::{trained_feed_forward, trained_sparse_feed_forward};
pub use tape::{apply1, apply3, record, recording, track, tracked, values_of, Keep};

use candle_core::{CpuStorage, Device, Layout, Storage, Tensor};

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

fn model_error(error: ModelError) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}

/// Runs `f` on a tensor's values.
pub fn on_values<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> candle_core::Result<T>) -> candle_core::Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(values(storage, layout)?),
        // What has no kernel of its own on a device is done on the host.
        _ => {
            drop(storage);
            on_values(&x.to_device(&Device::Cpu)?, f)
        }
    }
}
