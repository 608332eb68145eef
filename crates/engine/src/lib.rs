//! The operations of `ts/backend/contract.ts`: JSON and tensors in and out, handles in between.
//!
//! Both bindings call [`call`] and translate; everything else is here or below.

mod failure;
mod handles;
mod memory;
mod operations;
mod request;
mod wire;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::OnceLock;

pub use failure::Failure;
pub use operations::OPERATIONS;
pub use wire::{Dtype, Reply, Source, Tensor};

/// What the host provides. Set once by the binding before the first call.
#[derive(Clone, Copy)]
pub struct Host {
    /// `native` or `wasm`.
    pub backend: &'static str,
    /// Milliseconds on a clock that never goes back.
    pub now_ms: fn() -> f64,
    /// Threads that kernels may use.
    pub threads: usize,
    /// Bytes of memory that can be had without swapping, where the host knows.
    pub available_memory: fn() -> Option<u64>,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Tells the engine about its host. Later calls change nothing.
pub fn set_host(host: Host) {
    let _ = HOST.set(host);
}

/// Lends the calling thread to the kernels, for ever, where threads come from the host; returns at once elsewhere.
pub fn help() {
    switch_kernels::parallel::help();
}

fn now_ms() -> f64 {
    HOST.get().map_or(0.0, |host| (host.now_ms)())
}

fn available_memory() -> Option<u64> {
    HOST.get().and_then(|host| (host.available_memory)())
}

fn backend() -> &'static str {
    HOST.get().map_or("native", |host| host.backend)
}

/// Runs one operation to its end on the calling thread. Panics inside become `INTERNAL` failures where unwinding works.
pub fn call(operation: &str, request: &str, tensors: Vec<Tensor>, sources: Vec<Source>) -> Result<Reply, Failure> {
    // Objects are locked while they are used and dropped on the way out of a panic, so none is seen half-changed.
    catch_unwind(AssertUnwindSafe(|| operations::run(operation, request, tensors, sources))).unwrap_or_else(|payload| {
        let what = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown".into());
        Err(Failure::new(
            "INTERNAL",
            format!("{operation} failed in a way that it should not: {what}; please report it"),
        ))
    })
}
