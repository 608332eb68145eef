//! The native addon: every operation of `ts/backend/contract.ts` as `(request, tensors, sources) => Promise<Reply>`.
//!
//! It translates and does nothing else. Work happens on one compute thread per process (see [`compute`]), never on
//! JavaScript's thread nor on libuv's pool.

mod compute;
mod panics;
mod source;
mod wire;

use napi::bindgen_prelude::{Env, Error, Object};
use napi_derive::napi;
use switch_engine::{Failure, Reply};

use wire::{JsReply, JsSource, JsTensor};

fn submit<'env>(
    env: &'env Env,
    operation: &'static str,
    request: String,
    tensors: Vec<JsTensor>,
    sources: Vec<JsSource>,
) -> napi::Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred()?;
    let settle = move |result: Result<Reply, Failure>| match result {
        Ok(reply) => deferred.resolve(move |_env| Ok(JsReply::from(reply))),
        Err(failure) => deferred.reject(Error::from_reason(failure.to_json())),
    };
    // Bytes are copied here: JavaScript may change or detach its arrays as soon as this call returns.
    match tensors.into_iter().map(JsTensor::into_tensor).collect::<Result<Vec<_>, _>>() {
        Ok(tensors) => compute::submit(compute::Job { operation, request, tensors, sources, settle: Box::new(settle) }),
        Err(failure) => settle(Err(failure)),
    }
    Ok(promise)
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

/// Exports each operation under its own name, which `#[napi]` wants as a literal, and checks at compile time that the
/// list is the engine's, in its order.
macro_rules! operations {
    ($($name:ident $js_name:tt,)*) => {
        const EXPORTED: &[&str] = &[$($js_name),*];

        const _: () = {
            assert!(EXPORTED.len() == switch_engine::OPERATIONS.len(), "the addon's operations are not the engine's");
            let mut i = 0;
            while i < EXPORTED.len() {
                assert!(same_text(EXPORTED[i], switch_engine::OPERATIONS[i]), "the addon's operations are not the engine's");
                i += 1;
            }
        };

        $(
            #[napi(
                js_name = $js_name,
                ts_args_type = "request: string, tensors: WireTensor[], sources: Source[]",
                ts_return_type = "Promise<Reply>"
            )]
            pub fn $name<'env>(
                env: &'env Env,
                request: String,
                tensors: Vec<JsTensor>,
                sources: Vec<JsSource>,
            ) -> napi::Result<Object<'env>> {
                submit(env, $js_name, request, tensors, sources)
            }
        )*
    };
}

operations! {
    describe "describe",
    set_threads "set_threads",
    release "release",
    checkpoint_open "checkpoint_open",
    checkpoint_read "checkpoint_read",
    config_resolve "config_resolve",
    model_load_start "model_load_start",
    model_load_step "model_load_step",
    model_init "model_init",
    model_info "model_info",
    model_parameters "model_parameters",
    model_load_adapter "model_load_adapter",
    model_unload_adapter "model_unload_adapter",
    model_forward "model_forward",
    model_save_plan "model_save_plan",
    model_save_read "model_save_read",
    generation_start "generation_start",
    generation_step "generation_step",
    generation_finish "generation_finish",
    route "route",
    process_scores "process_scores",
    training_start "training_start",
    training_step "training_step",
    training_evaluate "training_evaluate",
    training_update "training_update",
    training_gradients "training_gradients",
    training_clear_gradients "training_clear_gradients",
    training_save_plan "training_save_plan",
    training_restore "training_restore",
    training_merge_adapters "training_merge_adapters",
}
