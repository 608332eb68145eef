//! The side of candle's own T5 in a comparison: one line of JSON in, one out. See ours_worker.mjs for the operations; here
//! `load` takes the folder of a dense T5 checkpoint and float32 only, and `encode` saves no routes.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::t5::{Config, T5ForConditionalGeneration};
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

struct Model {
    t5: T5ForConditionalGeneration,
    start: u32,
    end: usize,
}

fn load(request: &Value) -> std::result::Result<(Model, Value), Failure> {
    let begin = Instant::now();
    let folder = Path::new(request["folder"].as_str().ok_or("load needs a folder")?);
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let file = folder.join("model.safetensors");
    // SAFETY: nothing writes to the file while it is mapped.
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&[file], DType::F32, &Device::Cpu)? };
    let t5 = T5ForConditionalGeneration::load(weights, &config)?;
    let start = config.decoder_start_token_id.unwrap_or(config.pad_token_id) as u32;
    let reply = json!({
        "version": "0.11.1",
        "threads": candle_core::utils::get_num_threads(),
        "seconds": begin.elapsed().as_secs_f64(),
    });
    Ok((Model { t5, start, end: config.eos_token_id }, reply))
}

fn ids(request: &Value) -> std::result::Result<Tensor, Failure> {
    let rows: Vec<Vec<u32>> = serde_json::from_value(request["ids"].clone())?;
    Ok(Tensor::new(rows, &Device::Cpu)?)
}

fn encode(model: &mut Model, request: &Value) -> std::result::Result<Value, Failure> {
    let ids = ids(request)?;
    let begin = Instant::now();
    let states = model.t5.encode(&ids)?;
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    if let Some(file) = request["save"].as_str() {
        let bytes: Vec<u8> =
            states.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
        std::fs::write(file, bytes)?;
    }
    Ok(json!({ "ms": ms }))
}

/// Greedy, and no row ends.
fn generate(model: &mut Model, request: &Value) -> std::result::Result<Value, Failure> {
    let ids = ids(request)?;
    let steps = request["new_tokens"].as_u64().ok_or("generate needs new_tokens")?;
    let begin = Instant::now();
    let rows = run(model, &ids, steps)?;
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    Ok(json!({ "ms": ms, "ids": rows }))
}

fn run(model: &mut Model, ids: &Tensor, steps: u64) -> Result<Vec<Vec<u32>>> {
    model.t5.clear_kv_cache();
    let states = model.t5.encode(ids)?;
    let count = ids.dim(0)?;
    let mut rows = vec![Vec::new(); count];
    let mut last = vec![model.start; count];
    for _ in 0..steps {
        let logits = model.t5.decode(&Tensor::from_vec(last, (count, 1), &Device::Cpu)?, &states)?;
        last = logits.to_vec2::<f32>()?.iter().map(|row| best(row, model.end)).collect();
        for (row, &id) in rows.iter_mut().zip(&last) {
            row.push(id);
        }
    }
    Ok(rows)
}

/// The index of the greatest value but `without`'s, the lowest of equal ones.
fn best(row: &[f32], without: usize) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (id, &value) in row.iter().enumerate() {
        if value > best.0 && id != without {
            best = (value, id);
        }
    }
    best.1 as u32
}

fn main() {
    let mut model = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = || -> std::result::Result<Value, Failure> {
            let request: Value = serde_json::from_str(&line)?;
            let op = request["op"].as_str().unwrap_or_default();
            if op == "load" {
                let (loaded, reply) = load(&request)?;
                model = Some(loaded);
                return Ok(reply);
            }
            let model = model.as_mut().ok_or("nothing is loaded")?;
            match op {
                "encode" => encode(model, &request),
                "generate" => generate(model, &request),
                _ => Err(format!("no operation {op}").into()),
            }
        };
        let reply = { answer }().unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
}
