//! Writing models: a plan, then bytes on demand.

use serde::Deserialize;
use serde_json::json;
use switch_model::SaveSource;

use super::{model::dtype, reply, Call};
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::request::parse;
use crate::wire::{Dtype, Reply, Tensor};

/// As transformers splits by default.
const DEFAULT_SHARD_BYTES: f64 = 50e9;
/// At most this much is handed out at a time.
const MAX_READ: usize = 64 << 20;

#[derive(Deserialize)]
struct Plan {
    model: u32,
    #[serde(default)]
    max_shard_bytes: Option<f64>,
    #[serde(default)]
    dtype: Option<String>,
}

pub fn plan(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Plan = parse("model_save_plan", call.request)?;
    let model = handles::model(request.model)?;
    let max = request.max_shard_bytes.unwrap_or(DEFAULT_SHARD_BYTES);
    if !(max >= 1.0 && max.is_finite()) {
        return Err(Failure::new("INVALID_OPTION", format!("max_shard_bytes: found {max}, expected 1 or more")));
    }
    let source = SaveSource::new(model, max as u64, dtype(request.dtype.as_deref())?)?;
    let files: Vec<_> = source.plan.files.iter().map(|f| json!({ "name": f.name, "size": f.size })).collect();
    let mut answer = json!({ "files": files, "total_size": source.plan.total_size });
    if let Some(index) = &source.plan.index {
        answer["index"] = json!(index);
    }
    answer["plan"] = json!(handles::insert(Object::SavePlan(Box::new(source)), Some(request.model))?);
    Ok(reply(answer))
}

#[derive(Deserialize)]
struct Read {
    plan: u32,
    file: usize,
    offset: u64,
    length: usize,
}

pub fn read(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Read = parse("model_save_read", call.request)?;
    if request.length > MAX_READ {
        let message = format!("length: found {}, expected at most {MAX_READ}", request.length);
        return Err(Failure::new("INVALID_OPTION", message));
    }
    let mut data = vec![0u8; request.length];
    handles::read_plan(request.plan, request.file, request.offset, &mut data)?;
    let bytes = Tensor { name: "bytes".into(), dtype: Dtype::Uint8, dims: vec![data.len()], data };
    Ok(Reply { json: "{}".into(), tensors: vec![bytes] })
}
