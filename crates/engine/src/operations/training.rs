//! Training: the operations of `ts/backend/training_contract.ts`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use switch_model::{Rows, StateSource, StepReport, SwitchTransformersConfig, Training};
use switch_model::{TrainingBatch, TrainingOptions, TrainingPart};

use super::forward::shift_right;
use super::{reply, Call};
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::memory;
use crate::request::{parse, Tensors};
use crate::wire::{Reply, Tensor};

const INPUTS: &[&str] = &["input_ids", "attention_mask", "labels", "decoder_input_ids", "decoder_attention_mask"];

fn lock(training: &Arc<Mutex<Training>>) -> MutexGuard<'_, Training> {
    training.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Start {
    model: u32,
    #[serde(default)]
    options: TrainingOptions,
}

pub fn start(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Start = parse("training_start", call.request)?;
    let model = handles::model(request.model)?;
    let teacher = request.options.teacher.map(handles::model).transpose()?;
    let training = Training::new(&model, teacher, request.options, crate::available_memory())?;
    let trained = Arc::clone(training.model());
    let (mut parameters, mut bytes) = (0u64, 0u64);
    for (_, weight) in trained.parameters().iter() {
        parameters += weight.elements() as u64;
        bytes += weight.elements() as u64 * weight.dtype().size() as u64;
    }
    let names: Vec<String> = training.names().map(str::to_string).collect();
    let learned = training.trainable_parameters();
    let handle = handles::insert(Object::Training(Arc::new(Mutex::new(training))), Some(request.model))?;
    handles::replace_model(request.model, trained)?;
    Ok(reply(json!({
        "training": handle,
        "parameters": parameters,
        "trainable_parameters": learned,
        "bytes": bytes + 4 * learned,
        "trainable": names,
    })))
}

/// The batch of a request.
fn batch(tensors: &Tensors, config: &SwitchTransformersConfig, checkpointing: bool) -> Result<TrainingBatch, Failure> {
    let invalid = |message: String| Failure::new("INVALID_INPUT", message);
    tensors.only(INPUTS)?;
    let input = tensors.ids("input_ids", config.vocab_size)?;
    let input = input.ok_or_else(|| invalid("found no input_ids, expected [batch, tokens]".into()))?;
    let labels = tensors.labels(config.vocab_size)?;
    let (labels, rows, len) = labels.ok_or_else(|| invalid("found no labels, expected [batch, tokens]".into()))?;
    if rows != input.rows {
        return Err(invalid(format!("labels: found {rows} rows, expected {} as input_ids have", input.rows)));
    }
    let decoder_input_ids = match tensors.ids("decoder_input_ids", config.vocab_size)? {
        None => shift_right(config, &labels, len)?,
        Some(ids) if (ids.rows, ids.cols) == (rows, len) => ids.ids,
        Some(ids) => {
            let message = format!("decoder_input_ids: found [{}, {}], expected [{rows}, {len}]", ids.rows, ids.cols);
            return Err(invalid(message));
        }
    };
    let mask = tensors.mask("attention_mask", rows, &[input.cols])?.map(|(mask, _)| mask);
    let decoder_mask = tensors.mask("decoder_attention_mask", rows, &[len])?.map(|(mask, _)| mask);
    memory::check_training(config, rows * input.cols, rows * len, checkpointing)?;
    Ok(TrainingBatch {
        input_ids: input.ids,
        encoder_rows: Rows::rectangle(rows, input.cols, mask)?,
        decoder_input_ids,
        decoder_rows: Rows::rectangle(rows, len, decoder_mask)?,
        labels,
    })
}

fn report(report: &StepReport) -> Result<Reply, Failure> {
    // Numbers that are not finite have no JSON: they cross as null, and `non_finite` says what they were.
    let json = serde_json::to_value(report).map_err(|e| Failure::new("INTERNAL", e.to_string()))?;
    Ok(reply(json))
}

#[derive(Deserialize)]
struct Step {
    training: u32,
    step: u64,
    #[serde(default)]
    loss_scale: Option<f32>,
}

pub fn step(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Step = parse("training_step", call.request)?;
    let scale = request.loss_scale.unwrap_or(1.0);
    if !scale.is_finite() {
        return Err(Failure::new("INVALID_OPTION", format!("loss_scale: found {scale}, expected a finite number")));
    }
    let (training, _) = handles::training(request.training)?;
    let mut training = lock(&training);
    let config = Arc::clone(training.model().config());
    let batch = batch(&call.tensors, &config, training.options().gradient_checkpointing)?;
    report(&training.step(&batch, request.step, scale)?)
}

#[derive(Deserialize)]
struct OfTraining {
    training: u32,
    #[serde(default)]
    names: Option<Vec<String>>,
}

pub fn evaluate(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfTraining = parse("training_evaluate", call.request)?;
    let (training, _) = handles::training(request.training)?;
    let training = lock(&training);
    let config = Arc::clone(training.model().config());
    // Nothing is kept for a way back, as with checkpointing.
    let batch = batch(&call.tensors, &config, true)?;
    report(&training.evaluate(&batch)?)
}

#[derive(Deserialize)]
struct Update {
    training: u32,
    learning_rate: f64,
    #[serde(default)]
    max_grad_norm: Option<f64>,
}

pub fn update(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Update = parse("training_update", call.request)?;
    let (training, _) = handles::training(request.training)?;
    let report = lock(&training).update(request.learning_rate, request.max_grad_norm)?;
    Ok(reply(json!({
        "updated": report.updated,
        "grad_norm": report.grad_norm,
        "non_finite": report.non_finite,
        "updates": report.updates,
    })))
}

pub fn gradients(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfTraining = parse("training_gradients", call.request)?;
    let (training, _) = handles::training(request.training)?;
    let training = lock(&training);
    let names = request.names.unwrap_or_else(|| training.names().map(str::to_string).collect());
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let (values, shape) = training.gradient(&name)?;
        tensors.push(Tensor::from_f32(name, &shape, &values));
    }
    Ok(Reply { json: "{}".into(), tensors })
}

pub fn clear_gradients(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfTraining = parse("training_clear_gradients", call.request)?;
    let (training, _) = handles::training(request.training)?;
    lock(&training).clear_gradients();
    Ok(reply(json!({})))
}

#[derive(Deserialize)]
struct Plan {
    training: u32,
    part: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

pub fn save_plan(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Plan = parse("training_save_plan", call.request)?;
    let (part, stem) = match request.part.as_str() {
        "optimizer" => (TrainingPart::Optimizer, "optimizer"),
        "adapters" => (TrainingPart::Adapters, "adapter_model"),
        other => return Err(unknown_part(other, &["optimizer", "adapters"])),
    };
    let (training, owner) = handles::training(request.training)?;
    let source = StateSource::new(&training, part, &request.metadata)?;
    let named = |name: &str| name.replacen("model", stem, 1);
    let files: Vec<_> = source.plan.files.iter().map(|f| json!({ "name": named(&f.name), "size": f.size })).collect();
    let total_size = source.plan.total_size;
    let handle = handles::insert(Object::StatePlan(Box::new(source)), owner)?;
    Ok(reply(json!({ "plan": handle, "files": files, "total_size": total_size })))
}

#[derive(Deserialize)]
struct Restore {
    training: u32,
    checkpoint: u32,
    part: String,
}

pub fn restore(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Restore = parse("training_restore", call.request)?;
    let (training, _) = handles::training(request.training)?;
    let checkpoint = handles::checkpoint(request.checkpoint)?;
    let mut training = lock(&training);
    match request.part.as_str() {
        "weights" => training.restore_weights(&checkpoint)?,
        "optimizer" => training.restore_optimizer(&checkpoint)?,
        "adapters" => training.restore_adapters(&checkpoint)?,
        other => return Err(unknown_part(other, &["weights", "optimizer", "adapters"])),
    }
    Ok(reply(json!({ "updates": training.updates() })))
}

fn unknown_part(found: &str, expected: &[&str]) -> Failure {
    Failure::new("INVALID_OPTION", format!("part: found {found:?}, expected one of {expected:?}"))
}

pub fn merge_adapters(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfTraining = parse("training_merge_adapters", call.request)?;
    let (training, _) = handles::training(request.training)?;
    lock(&training).merge_adapters()?;
    Ok(reply(json!({})))
}
