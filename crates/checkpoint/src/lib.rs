//! Checkpoint formats over bytes: safetensors and `torch.save` files, whole or sharded, read in place where the host
//! maps files, and safetensors written piece by piece. No files, no candle, no model.
//!
//! Every byte read here may come from a stranger. Sizes are checked before they are allocated, nothing recurses over
//! nested data, and pickles are read as data: nothing in them is ever called.
#[cfg(target_endian = "big")]
compile_error!("checkpoints hold little-endian values, which are used in place: big-endian machines are not supported");

mod checkpoint;
mod convert;
mod dtype;
mod error;
mod format;
mod gather;
mod index;
mod limits;
mod pickle;
mod safetensors;
mod save;
mod source;
mod tensor;
mod torch;
mod zip;

pub use checkpoint::{Checkpoint, MappedBytes};
pub use convert::Element;
pub use dtype::Dtype;
pub use error::{CheckpointError, Fault};
pub use index::shard_names;
pub use save::{PlannedFile, PlannedTensor, SavePlan, SaveTensor, TensorBytes};
pub use source::{ByteSource, NamedSource, SourceError};
pub use tensor::{Layout, TensorInfo};
