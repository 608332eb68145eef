//! The compute core of Switch Transformers: slices and shapes in, slices out.
//!
//! Arithmetic is float32; weights may be stored as float32, bfloat16 or float16 and are read in place. Every function
//! checks its shapes first and returns a [`KernelError`] that says what was found and what was expected. Results do not
//! depend on the number of threads, nor does a row's result depend on the rows beside it.
//!
//! [`mod@reference`] holds a slow, obvious version of each kernel; tests and benches compare against it.

mod activation;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(feature = "cuda")]
pub mod cuda;
mod embedding;
mod error;
mod experts;
mod gemm;
pub mod isa;
mod linear;
mod math;
mod matrix;
mod norm;
pub mod parallel;
mod precision;
pub mod quantised;
pub mod reference;
mod route;
mod scratch;
mod simd;
pub mod training;

pub use activation::{activate, Activation};
pub use attention::{attention, attention_with, AttentionRow, RelativeBias};
pub use embedding::embedding;
pub use error::KernelError;
pub use experts::{experts, experts_with, feed_forward, feed_forward_with, ExpertWeights};
pub use linear::{linear, linear_together, linear_with};
pub use matrix::{Matrix, Values};
pub use norm::{rms_norm, softmax_rows};
pub use precision::Precision;
pub use route::{route_top1, Rounding, RouteOptions, Routes};
