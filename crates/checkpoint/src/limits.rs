//! Ceilings on what a file may make us do. Each is far above any real checkpoint and low enough that the worst file
//! costs some hundred megabytes and a second, not the process.

/// Longest safetensors header in bytes: the official implementation's own limit.
pub const HEADER_BYTES: u64 = 100_000_000;
/// Longest `*.index.json` in bytes; Switch-C's has about 15 million.
pub const INDEX_BYTES: usize = 32 << 20;
/// Most pairs in an index or in a header's metadata.
pub const PAIRS: usize = 1 << 20;
/// Most tensors in one file. Switch-C, the largest published model, has about 120,000 in all its shards together.
pub const TENSORS: usize = 1 << 18;
/// Most dimensions of a tensor.
pub const RANK: usize = 32;
/// Longest pickle in bytes. It holds names and shapes only: a few hundred bytes a tensor.
pub const PICKLE_BYTES: u64 = 64 << 20;
/// Most opcodes in a pickle; a tensor takes about 40.
pub const PICKLE_OPS: u64 = 8 << 20;
/// Most values on the pickle stack, entries in its memo, and containers it builds.
pub const PICKLE_VALUES: usize = 1 << 20;
/// Longest name of a module, a class or a storage in a pickle.
pub const PICKLE_NAME: usize = 256;
/// Longest central directory of a zip archive in bytes.
pub const ZIP_DIRECTORY: u64 = 64 << 20;
/// A tensor with more elements than its storage (an expanded one) may have this many, so that a few bytes cannot
/// claim terabytes.
pub const EXPANDED_ELEMENTS: u64 = 1 << 20;
/// Tensors of one file may together take this many times its size (tied ones share their bytes), plus
/// [`SHARED_BYTES`], so that reading everything costs no more than the file suggests.
pub const SHARED_TIMES: u64 = 16;
pub const SHARED_BYTES: u64 = 64 << 20;
