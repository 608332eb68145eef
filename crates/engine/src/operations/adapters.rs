//! Low-rank adapters on a model that is loaded.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use switch_model::{with_adapters, AdapterOptions};

use super::{reply, Call};
use crate::failure::Failure;
use crate::handles;
use crate::request::parse;
use crate::wire::Reply;

#[derive(Deserialize)]
struct Load {
    model: u32,
    checkpoint: u32,
    options: AdapterOptions,
}

pub fn load(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Load = parse("model_load_adapter", call.request)?;
    let model = handles::model(request.model)?;
    check_free(request.model)?;
    let checkpoint = handles::checkpoint(request.checkpoint)?;
    let (adapted, adapters) = with_adapters(&model, &checkpoint, &request.options, crate::available_memory())?;
    handles::replace_model(request.model, Arc::new(adapted))?;
    Ok(reply(json!({ "adapters": adapters })))
}

/// A training holds the weights as they are.
fn check_free(model: u32) -> Result<(), Failure> {
    match handles::is_trained(model) {
        true => Err(Failure::new("INVALID_INPUT", "found a training of this model; dispose of its Trainer first")),
        false => Ok(()),
    }
}

#[derive(Deserialize)]
struct Unload {
    model: u32,
    merge: bool,
}

pub fn unload(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Unload = parse("model_unload_adapter", call.request)?;
    let model = handles::model(request.model)?;
    check_free(request.model)?;
    let Some(base) = model.unadapted() else {
        return Err(Failure::new("INVALID_INPUT", "found no adapter, expected one that load_adapter has loaded"));
    };
    let next = if request.merge { Arc::new(model.merged()?) } else { Arc::clone(base) };
    handles::replace_model(request.model, next)?;
    Ok(reply(json!({})))
}
