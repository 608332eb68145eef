//! The kernels on NVIDIA GPUs: which of `kernels/*.cu` to launch, over how many threads, with which arguments.
//!
//! Nothing here calls CUDA. A function checks its shapes and pushes [`Launch`]es; whoever holds the device runs them in
//! order on one stream (`switch-model`'s feature `cuda`), and tests run the same ones on a CPU (`tests/cuda_host.rs`).
//! Addresses are the device's; lengths behind them are the caller's promise.

mod attention;
mod permute;
mod pointwise;
mod product;
mod route;
mod sample;
mod training;

pub use attention::{attention, attention_backward, Attention, AttentionBackward, Span, MOST_HEAD_DIM};
pub use permute::{most_tiles, permute, Permutation, PERMUTE_CHUNK};
pub use pointwise::{
    activation_backward, add, add_row, argmax_rows, cross_entropy, embedding, embedding_backward, gather_rows,
    rms_norm, rms_norm_backward, round_to, row_dots, scale, scatter_rows, sum_rows, RmsNorm, RmsNormBackward,
    NORM_WEIGHT_PARTS,
};
pub use product::{product, Arithmetic, Flags, Product, WeightType};
pub use route::{route, route_backward, Route};
pub use sample::{sample_rows, Sampling};
pub use training::{
    activate_rows, activate_rows_backward, copy_columns, dropout, gate_backward, jitter, token_loss, Activated,
    DropoutArgument, TokenLoss,
};

use crate::error::KernelError;

/// An address in the device's memory; 0 is none.
pub type Address = u64;

/// One argument of a kernel, as its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument(pub Vec<u8>);

macro_rules! arguments {
    ($($type:ty),*) => {$(
        impl From<$type> for Argument {
            fn from(value: $type) -> Self {
                Self(value.to_ne_bytes().to_vec())
            }
        }
    )*};
}
arguments!(u64, i64, u32, i32, f32, f64);

/// One kernel launch. Block and grid are never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub kernel: &'static str,
    pub grid: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub threads: u32,
    pub shared_bytes: u32,
    pub arguments: Vec<Argument>,
}

/// Launches, in the order in which they are to run.
pub type Launches = Vec<Launch>;

/// Shared memory that every device gives a block without being asked for more.
const SHARED_BYTES: usize = 48 << 10;
const WARP: u32 = 32;

/// A whole number as the kernels count: 32 bits with a sign.
fn int(what: &'static str, value: usize) -> Result<i32, KernelError> {
    i32::try_from(value).map_err(|_| KernelError::Dimension { what, expected: "at most 2147483647", found: value })
}

/// Blocks along y or z.
fn side(what: &'static str, value: usize) -> Result<u32, KernelError> {
    match u32::try_from(value) {
        Ok(side @ 0..=65535) => Ok(side),
        _ => Err(KernelError::Dimension { what, expected: "at most 65535", found: value }),
    }
}

fn shared(what: &'static str, bytes: usize) -> Result<u32, KernelError> {
    match u32::try_from(bytes) {
        Ok(small) if bytes <= SHARED_BYTES => Ok(small),
        _ => Err(KernelError::Dimension { what, expected: "what 48 KiB of shared memory hold", found: bytes }),
    }
}

/// A block per row, as many threads as its columns are worth.
fn row_threads(columns: usize) -> u32 {
    match columns {
        0..=64 => 32,
        65..=256 => 64,
        257..=1024 => 128,
        _ => 256,
    }
}

fn push(
    launches: &mut Launches,
    kernel: &'static str,
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    arguments: Vec<Argument>,
) {
    if !grid.contains(&0) {
        launches.push(Launch { kernel, grid, threads, shared_bytes, arguments });
    }
}
