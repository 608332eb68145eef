//! Checkpoint formats over bytes. No files, no candle, no model.
mod source;

pub use source::{ByteSource, SourceError};
