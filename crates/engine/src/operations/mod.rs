//! One file per group of operations of the contract.

mod adapters;
mod checkpoint;
mod forward;
pub mod generation;
mod model;
mod routing;
mod save;
mod training;

use serde_json::{json, Value};
use switch_model::cuda_devices;

use crate::failure::Failure;
use crate::request::{parse, Tensors};
use crate::wire::{Reply, Source, Tensor};
use crate::{backend, handles};

/// What an operation works on.
pub struct Call<'a> {
    pub request: &'a str,
    pub tensors: Tensors,
    pub sources: Vec<Source>,
}

type Operation = fn(Call<'_>) -> Result<Reply, Failure>;

/// Every operation by name, as in `OPERATIONS` of the contract.
const TABLE: &[(&str, Operation)] = &[
    ("describe", describe),
    ("set_threads", set_threads),
    ("release", release),
    ("checkpoint_open", checkpoint::open),
    ("checkpoint_read", checkpoint::read),
    ("config_resolve", model::config_resolve),
    ("model_load_start", model::load_start),
    ("model_load_step", model::load_step),
    ("model_init", model::init),
    ("model_info", model::info),
    ("model_parameters", model::parameters),
    ("model_load_adapter", adapters::load),
    ("model_unload_adapter", adapters::unload),
    ("model_forward", forward::forward),
    ("model_save_plan", save::plan),
    ("model_save_read", save::read),
    ("generation_start", generation::start),
    ("generation_step", generation::step),
    ("generation_finish", generation::finish),
    ("route", routing::route),
    ("process_scores", generation::process),
    ("training_start", training::start),
    ("training_step", training::step),
    ("training_evaluate", training::evaluate),
    ("training_update", training::update),
    ("training_gradients", training::gradients),
    ("training_clear_gradients", training::clear_gradients),
    ("training_save_plan", training::save_plan),
    ("training_restore", training::restore),
    ("training_merge_adapters", training::merge_adapters),
];

/// The names of [`TABLE`].
pub const OPERATIONS: &[&str] = &{
    let mut names = [""; TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        names[i] = TABLE[i].0;
        i += 1;
    }
    names
};

pub fn run(operation: &str, request: &str, tensors: Vec<Tensor>, sources: Vec<Source>) -> Result<Reply, Failure> {
    let Some((_, run)) = TABLE.iter().find(|(name, _)| *name == operation) else {
        return Err(Failure::new(
            "UNSUPPORTED_OPTION",
            format!("found the operation {operation:?}, expected one of {OPERATIONS:?}"),
        ));
    };
    run(Call { request, tensors: Tensors::new(tensors)?, sources })
}

/// A reply of JSON alone.
pub fn reply(json: Value) -> Reply {
    Reply { json: json.to_string(), tensors: Vec::new() }
}

fn describe(_: Call<'_>) -> Result<Reply, Failure> {
    let (mut devices, mut unavailable) = (vec!["cpu".to_string()], json!({}));
    match cuda_devices() {
        Ok(names) => devices.extend((0..names.len()).map(|number| format!("cuda:{number}"))),
        Err(reason) => unavailable = json!({ "cuda": reason }),
    }
    Ok(reply(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "backend": backend(),
        "isa": switch_kernels::isa::active().name(),
        "threads": switch_kernels::parallel::threads(),
        "devices": devices,
        "unavailable": unavailable,
        "operations": OPERATIONS,
    })))
}

#[derive(serde::Deserialize)]
struct SetThreads {
    threads: usize,
}

/// As many as asked for, or as there can be; 0 chooses the default.
fn set_threads(call: Call<'_>) -> Result<Reply, Failure> {
    let request: SetThreads = parse("set_threads", call.request)?;
    Ok(reply(json!({ "threads": switch_kernels::parallel::set_threads(request.threads) })))
}

#[derive(serde::Deserialize)]
struct Release {
    handle: u32,
}

fn release(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Release = parse("release", call.request)?;
    handles::release(request.handle)?;
    Ok(reply(json!({})))
}
