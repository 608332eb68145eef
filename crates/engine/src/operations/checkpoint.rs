//! Opening checkpoints and reading tensors out of them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use switch_checkpoint::{Checkpoint, NamedSource};

use super::{reply, Call};
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::request::parse;
use crate::wire::{Reply, Tensor};

#[derive(Deserialize)]
struct Open {
    #[serde(default)]
    index: Option<String>,
}

pub fn open(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Open = parse("checkpoint_open", call.request)?;
    let files: Vec<NamedSource> =
        call.sources.into_iter().map(|s| NamedSource { name: s.name, bytes: s.bytes }).collect();
    let checkpoint = Checkpoint::open(files, request.index.as_deref())?;
    let tensors: Vec<_> = checkpoint
        .tensors()
        .map(|t| {
            let file = checkpoint.files().get(t.file).map(|f| f.name.as_str());
            json!({ "name": t.name, "dtype": t.dtype.name(), "shape": t.shape, "bytes": t.bytes(), "file": file })
        })
        .collect();
    let metadata = json!(checkpoint.metadata());
    let handle = handles::insert(Object::Checkpoint(Arc::new(checkpoint)), None)?;
    Ok(reply(json!({ "checkpoint": handle, "tensors": tensors, "metadata": metadata })))
}

#[derive(Deserialize)]
struct Read {
    checkpoint: u32,
    #[serde(default)]
    names: Option<Vec<String>>,
}

pub fn read(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Read = parse("checkpoint_read", call.request)?;
    let checkpoint = handles::checkpoint(request.checkpoint)?;
    let names = request.names.unwrap_or_else(|| checkpoint.tensors().map(|t| t.name.clone()).collect());
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let Some(info) = checkpoint.get(&name) else {
            return Err(Failure::new("INVALID_INPUT", format!("the checkpoint has no tensor {name:?}")));
        };
        if info.dtype.is_integer() {
            tensors.push(Tensor::from_i64(name, &info.shape, &checkpoint.read_i64(info)?));
        } else {
            let mut values: Vec<f32> = Vec::new();
            let elements = usize::try_from(info.elements()).unwrap_or(usize::MAX);
            values.try_reserve_exact(elements).map_err(|_| {
                Failure::new("OUT_OF_MEMORY", format!("{name}: could not allocate {} values", info.elements()))
            })?;
            values.resize(elements, 0.0);
            checkpoint.read_f32(info, &mut values)?;
            tensors.push(Tensor::from_f32(name, &info.shape, &values));
        }
    }
    Ok(Reply { json: "{}".into(), tensors })
}
