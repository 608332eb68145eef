//! Models on NVIDIA GPUs: opening a device, weights on it, and the launches of `switch_kernels::cuda` on its stream.
//!
//! One stream per device takes everything in order, so nothing is waited for until a result is read. Not yet run on
//! hardware: see docs/cuda.md for what has been shown, and how.

mod attention;
mod cache;
mod choose;
mod errors;
mod experts;
mod gradients;
mod hidden;
mod host_experts;
mod loss;
mod pointwise;
mod probe;
mod run;
mod training;
mod upload;
mod weights;

pub use attention::{attend, attend_backward, attend_train, cached, AttendBack};
pub use cache::{DeviceCache, DeviceLayer};
pub use choose::choose;
pub use errors::of_candle;
pub use experts::{feed_forward, sparse, ExpertTables, Routed};
pub use gradients::DeviceGradient;
pub use hidden::{dense_backward, dense_train, Hidden, Kept, SparseStep};
pub use host_experts::{sparse_from_host, HostExperts};
pub use loss::{token_losses, Head};
pub use pointwise::{add, add_bias, add_to, embedding, embedding_storage, linear, pointwise, rms_norm, select};
pub use probe::{check_room, devices, open};
pub use run::Buffer;
pub use training::{columns, embedding_backward, linear_backward, rms_norm_backward, spread};
pub use weights::WeightCopy;
