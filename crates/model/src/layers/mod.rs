//! The layers of a stack, written once for every storage type and device.

mod attention;
mod block;
mod feed_forward;
mod position_bias;
mod router;

pub use attention::{CrossKeyValues, CrossRows};
pub use block::{Block, BlockInput};
pub use feed_forward::{ExpertBank, FeedForward, SparseMlp};
pub use position_bias::{bucket, BiasSpan, PositionBias};
pub use router::Router;
