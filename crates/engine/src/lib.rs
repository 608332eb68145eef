//! The operations of `ts/backend/contract.ts`: JSON and tensors in and out, handles in between.
//!
//! Both bindings call [`call`] and translate; everything else is here or below.

mod failure;
mod wire;

pub use failure::Failure;
pub use wire::{Dtype, Reply, Source, Tensor};

/// Every operation, as in `OPERATIONS` of the contract.
pub const OPERATIONS: &[&str] = &[
    "describe",
    "set_threads",
    "release",
    "checkpoint_open",
    "checkpoint_read",
    "config_resolve",
    "model_load_start",
    "model_load_step",
    "model_init",
    "model_info",
    "model_parameters",
    "model_forward",
    "model_save_plan",
    "model_save_read",
    "generation_start",
    "generation_step",
    "generation_finish",
    "route",
    "process_scores",
];

/// What the host provides. Set once by the binding before the first call.
#[derive(Clone, Copy)]
pub struct Host {
    /// `native` or `wasm`.
    pub backend: &'static str,
    /// Milliseconds on a clock that never goes back.
    pub now_ms: fn() -> f64,
    /// Threads that kernels may use.
    pub threads: usize,
}

static HOST: std::sync::OnceLock<Host> = std::sync::OnceLock::new();

/// Tells the engine about its host. Later calls change nothing.
pub fn set_host(host: Host) {
    let _ = HOST.set(host);
}

/// Runs one operation to its end on the calling thread. Panics inside become `INTERNAL` failures where unwinding works.
pub fn call(operation: &str, request: &str, tensors: Vec<Tensor>, sources: Vec<Source>) -> Result<Reply, Failure> {
    let _ = (request, tensors, sources);
    Err(Failure::new("UNSUPPORTED_OPTION", format!("unknown operation {operation:?}")))
}
