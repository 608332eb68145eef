//! Models on NVIDIA GPUs: opening a device, weights on it, and the launches of `switch_kernels::cuda` on its stream.
//!
//! One stream per device takes everything in order, so nothing is waited for until a result is read. Not yet run on
//! hardware: see docs/cuda.md for what has been shown, and how.

mod attention;
mod cache;
mod errors;
mod experts;
mod pointwise;
mod probe;
mod run;
mod weights;

pub use attention::{attend, cached};
pub use cache::{DeviceCache, DeviceLayer};
pub use errors::of_candle;
pub use experts::{feed_forward, sparse, ExpertTables, Routed};
pub use pointwise::{add, add_bias, embedding, linear, pointwise, rms_norm, select};
pub use probe::{check_room, devices, open};
pub use weights::WeightCopy;
