//! The WASM module: every operation of `ts/backend/contract.ts` as `(request, tensors, sources) => Reply`, synchronous,
//! to be called in a worker.
//!
//! It translates and does nothing else. A panic throws and leaves the instance unusable: see [`panics`].

mod memory;
mod panics;
mod source;
mod wire;

use js_sys::{Array, Error, Object};
use switch_engine::{Failure, Host};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = "import type { Reply, Source, WireTensor } from '../../../ts/backend/contract.js'";

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now_ms() -> f64;
}

/// What a WASM memory can grow to.
const ADDRESS_SPACE: u64 = 4 << 30;

fn host_now_ms() -> f64 {
    now_ms()
}

#[wasm_bindgen(start)]
fn start() {
    panics::install_hook();
    switch_engine::set_host(Host {
        backend: "wasm",
        now_ms: host_now_ms,
        threads: 0,
        available_memory: || Some(ADDRESS_SPACE),
    });
}

/// Lends the calling worker to the kernels, for ever. Returns at once where the build has no threads.
#[wasm_bindgen]
pub fn help() {
    switch_engine::help();
}

fn run(operation: &str, request: &str, tensors: &Array, sources: &Array) -> Result<Object, Failure> {
    let tensors = tensors.iter().map(|tensor| wire::tensor(&tensor)).collect::<Result<Vec<_>, _>>()?;
    let sources = sources.iter().map(|source| source::open(&source)).collect::<Result<Vec<_>, _>>()?;
    switch_engine::call(operation, request, tensors, sources).and_then(wire::reply)
}

const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Exports each operation under its own name, and checks at compile time that the list is the engine's, in its order.
macro_rules! operations {
    ($($name:ident,)*) => {
        const EXPORTED: &[&str] = &[$(stringify!($name)),*];

        const _: () = {
            assert!(EXPORTED.len() == switch_engine::OPERATIONS.len(), "the module's operations are not the engine's");
            let mut i = 0;
            while i < EXPORTED.len() {
                assert!(
                    same_text(EXPORTED[i], switch_engine::OPERATIONS[i]),
                    "the module's operations are not the engine's"
                );
                i += 1;
            }
        };

        $(
            #[wasm_bindgen(unchecked_return_type = "Reply")]
            pub fn $name(
                request: &str,
                #[wasm_bindgen(unchecked_param_type = "WireTensor[]")] tensors: &Array,
                #[wasm_bindgen(unchecked_param_type = "Source[]")] sources: &Array,
            ) -> Result<Object, JsValue> {
                run(stringify!($name), request, tensors, sources)
                    .map_err(|failure| Error::new(&failure.to_json()).into())
            }
        )*
    };
}

operations! {
    describe,
    set_threads,
    release,
    checkpoint_open,
    checkpoint_read,
    config_resolve,
    model_load_start,
    model_load_step,
    model_init,
    model_info,
    model_parameters,
    model_load_adapter,
    model_unload_adapter,
    model_forward,
    model_save_plan,
    model_save_read,
    generation_start,
    generation_step,
    generation_finish,
    route,
    process_scores,
    training_start,
    training_step,
    training_evaluate,
    training_update,
    training_gradients,
    training_clear_gradients,
    training_save_plan,
    training_restore,
    training_merge_adapters,
}
