//! Generation sessions: start, step, finish; and one option applied to given scores.

mod records;
mod session;

use serde::Deserialize;
use serde_json::{json, Value};
use switch_generation::{GenerationError, GenerationOptions, GenerationResult, RowInput, Session};
use switch_model::{Profile, Rows, SwitchTransformers, Tokens};

use super::{reply, Call};
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::memory;
use crate::request::{parse, Tensors};
use crate::wire::{Reply, Tensor};
use records::{Records, OUTPUTS};
pub use session::GenerationSession;
use session::{Advance, ModelSteps};

impl From<GenerationError> for Failure {
    fn from(error: GenerationError) -> Self {
        let faults: Vec<_> =
            error.faults.iter().map(|f| json!({ "code": f.code, "option": f.option, "message": f.message })).collect();
        Self::new(error.code, error.message).with_details(json!({ "option": error.option, "faults": faults }))
    }
}

#[derive(Deserialize)]
struct Start {
    model: u32,
    options: Value,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    pause_at_scores: bool,
    #[serde(default)]
    pause_at_candidates: bool,
    /// Tells where the time went, when the session is finished.
    #[serde(default)]
    profile: bool,
}

const INPUTS: &[&str] = &["input_ids", "inputs_embeds", "encoder_hidden_states", "attention_mask", "decoder_input_ids"];

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("INVALID_INPUT", message)
}

pub fn start(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Start = parse("generation_start", call.request)?;
    call.tensors.only(INPUTS)?;
    if let Some(name) = request.outputs.iter().find(|name| !OUTPUTS.contains(&name.as_str())) {
        return Err(Failure::new("INVALID_OPTION", format!("outputs: found {name:?}, expected some of {OUTPUTS:?}")));
    }
    let model = handles::model(request.model)?;
    let vocab_size = model.config().vocab_size;
    let options = GenerationOptions::from_json(&request.options, vocab_size)?;
    let mut records = Records::new(request.outputs);
    let mut profile = request.profile.then(Profile::default);
    let input = recorded(&mut profile, || encoder_input(&model, &call.tensors, &options, &mut records))?;
    let rows = row_inputs(&call.tensors, &input, vocab_size)?;
    // One more than is given: the start token may come before it.
    let longest = rows.iter().map(|r| options.length_limit(r.decoder_ids.len() + 1)).max().unwrap_or(0);
    let slots_per_row = options.slots_per_row();
    if records.needs_single_rows() && options.num_beams > 1 {
        let message = "decoder_routes with num_beams: a beam's route is not one row's; leave out one of them";
        return Err(Failure::new("UNSUPPORTED_OPTION", message));
    }
    records.set_slots(rows.len() * slots_per_row);
    let row_of_slot: Vec<usize> = (0..rows.len()).flat_map(|row| std::iter::repeat_n(row, slots_per_row)).collect();
    let session = Session::new(options, vocab_size, rows, 0, crate::now_ms())?;
    let cache = recorded(&mut profile, || model.cache(&input.states, input.rows, row_of_slot, longest))?;
    let output_rows = session.output_rows();
    let steps = ModelSteps::new(model, cache, records);
    let pauses = (request.pause_at_scores, request.pause_at_candidates);
    let session = GenerationSession::new(session, steps, pauses, profile);
    let handle = handles::insert(Object::Session(Box::new(session)), Some(request.model))?;
    Ok(reply(json!({ "session": handle, "rows": output_rows })))
}

/// Runs `f`, in the profile if there is one.
fn recorded<T>(profile: &mut Option<Profile>, f: impl FnOnce() -> T) -> T {
    match profile {
        Some(profile) => profile.record(crate::now_ms, f),
        None => f(),
    }
}

struct EncoderInput {
    states: candle_core::Tensor,
    rows: Rows,
    /// Per row, as given; empty where embeddings or states were.
    ids: Vec<Vec<u32>>,
}

/// Runs the encoder, or takes its output as given.
fn encoder_input(
    model: &SwitchTransformers,
    tensors: &Tensors,
    options: &GenerationOptions,
    records: &mut Records,
) -> Result<EncoderInput, Failure> {
    if let Some((states, batch, len)) = tensors.vectors("encoder_hidden_states")? {
        let mask = tensors.mask("attention_mask", batch, &[len])?.map(|(mask, _)| mask);
        // Ids beside the encoder's output serve the processors that look at them, as in the reference.
        let ids = match tensors.ids("input_ids", model.config().vocab_size)? {
            Some(ids) if ids.rows == batch => ids.ids.chunks_exact(ids.cols).map(<[u32]>::to_vec).collect(),
            Some(ids) => return Err(invalid(format!("input_ids: found {} rows, expected {batch}", ids.rows))),
            None => vec![Vec::new(); batch],
        };
        return Ok(EncoderInput { states, rows: Rows::rectangle(batch, len, mask)?, ids });
    }
    if tensors.has("input_ids") == tensors.has("inputs_embeds") {
        return Err(invalid("expected exactly one of input_ids, inputs_embeds and encoder_outputs"));
    }
    let mut trace = records.encoder_trace();
    if let Some((embeds, batch, len)) = tensors.vectors("inputs_embeds")? {
        let mask = tensors.mask("attention_mask", batch, &[len])?.map(|(mask, _)| mask);
        let rows = Rows::rectangle(batch, len, mask)?;
        let states = model.encode(Tokens::Embeds(embeds), &rows, &mut trace)?;
        records.encoded(&states, &trace, &rows)?;
        return Ok(EncoderInput { states, rows, ids: vec![Vec::new(); batch] });
    }
    let Some(ids) = tensors.ids("input_ids", model.config().vocab_size)? else {
        return Err(invalid("input_ids: found none"));
    };
    let mask = tensors.mask("attention_mask", ids.rows, &[ids.cols])?.map(|(mask, _)| mask);
    let slots = ids.rows.saturating_mul(options.slots_per_row());
    let pass = memory::Pass {
        encoder_tokens: ids.ids.len(),
        decoder_tokens: slots,
        logits_tokens: slots,
        ..memory::Pass::default()
    };
    memory::check(model.config(), &pass)?;
    let row_ids: Vec<Vec<u32>> = ids.ids.chunks_exact(ids.cols).map(<[u32]>::to_vec).collect();
    let (tokens, rows) = if records.wants_encoder() {
        (ids.ids, Rows::rectangle(ids.rows, ids.cols, mask)?)
    } else {
        trimmed(model, &row_ids, ids.cols, mask)?
    };
    let states = model.encode(Tokens::Ids(&tokens), &rows, &mut trace)?;
    records.encoded(&states, &trace, &rows)?;
    Ok(EncoderInput { states, rows, ids: row_ids })
}

/// Rows without their padding on the right: nothing attends to it and it fills experts last, so that leaving it out
/// changes no number. (A policy that ranks a whole row's tokens, or counts them, gets the row as it is.)
fn trimmed(
    model: &SwitchTransformers,
    rows: &[Vec<u32>],
    cols: usize,
    mask: Option<Vec<u8>>,
) -> Result<(Vec<u32>, Rows), Failure> {
    let original = matches!(model.policy(), switch_model::RoutingPolicy::Original { .. });
    let mask = match mask {
        Some(mask) if !original => mask,
        mask => return Ok((rows.concat(), Rows::rectangle(rows.len(), cols, mask)?)),
    };
    let (mut tokens, mut kept, mut lens) = (Vec::new(), Vec::new(), Vec::new());
    for (ids, mask) in rows.iter().zip(mask.chunks_exact(cols)) {
        let len = mask.iter().rposition(|m| *m != 0).map_or(cols, |last| last + 1);
        tokens.extend_from_slice(&ids[..len]);
        kept.extend_from_slice(&mask[..len]);
        lens.push(len);
    }
    Ok((tokens, Rows::new(lens, Some(kept))?))
}

fn row_inputs(tensors: &Tensors, input: &EncoderInput, vocab_size: usize) -> Result<Vec<RowInput>, Failure> {
    let batch = input.rows.count();
    let prefixes = match tensors.ids("decoder_input_ids", vocab_size)? {
        Some(ids) if ids.rows == batch => ids.ids.chunks_exact(ids.cols).map(<[u32]>::to_vec).collect(),
        Some(ids) => return Err(invalid(format!("decoder_input_ids: found {} rows, expected {batch}", ids.rows))),
        None => vec![Vec::new(); batch],
    };
    Ok(input
        .ids
        .iter()
        .cloned()
        .zip(prefixes)
        .map(|(encoder_ids, decoder_ids)| RowInput { encoder_ids, decoder_ids })
        .collect())
}

#[derive(Deserialize)]
struct Step {
    session: u32,
    max_steps: usize,
    #[serde(default)]
    max_ms: Option<f64>,
    #[serde(default)]
    stop: Vec<usize>,
    #[serde(default)]
    stop_candidates: Vec<usize>,
}

pub fn step(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Step = parse("generation_step", call.request)?;
    call.tensors.only(&["scores"])?;
    // A failed step ends the session: it is not put back.
    let (mut session, owner) = take(request.session)?;
    let result = session.advance(Advance {
        max_steps: request.max_steps,
        max_ms: request.max_ms,
        stop: request.stop,
        stop_candidates: request.stop_candidates,
        scores: call.tensors.floats("scores")?,
    })?;
    handles::put_back(request.session, Object::Session(session), owner);
    Ok(result)
}

fn take(handle: u32) -> Result<(Box<GenerationSession>, Option<u32>), Failure> {
    let (object, owner) = handles::take(handle)?;
    match object {
        Object::Session(session) => Ok((session, owner)),
        other => {
            let failure = handles::wrong_kind(handle, &other, "session");
            handles::put_back(handle, other, owner);
            Err(failure)
        }
    }
}

#[derive(Deserialize)]
struct Finish {
    session: u32,
}

pub fn finish(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Finish = parse("generation_finish", call.request)?;
    let (session, _) = take(request.session)?;
    let (session, steps, profile) = session.into_parts();
    let vocab_size = steps.vocab_size();
    let result = session.finish();
    let mut tensors = sequences(&result);
    if let Some(scores) = &result.sequences_scores {
        tensors.push(Tensor::from_f32("sequences_scores", &[scores.len()], scores));
    }
    for (name, all) in [("scores", &result.scores), ("logits", &result.logits)] {
        for (step, values) in all.iter().flatten().enumerate() {
            tensors.push(Tensor::from_f32(
                format!("{name}.{step}"),
                &[values.len() / vocab_size.max(1), vocab_size],
                values,
            ));
        }
    }
    if let Some(indices) = &result.beam_indices {
        let width = indices.first().map_or(0, Vec::len);
        tensors.push(Tensor::from_i32("beam_indices", &[indices.len(), width], &indices.concat()));
    }
    tensors.extend(steps.into_records().into_tensors(&result)?);
    let mut answer = json!({ "steps": result.steps, "lengths": result.lengths });
    if let Some(profile) = profile {
        answer["profile"] = json!(profile);
    }
    Ok(Reply { json: answer.to_string(), tensors })
}

fn sequences(result: &GenerationResult) -> Vec<Tensor> {
    let width = result.sequences.first().map_or(0, Vec::len);
    let ids: Vec<i64> = result.sequences.iter().flatten().map(|id| i64::from(*id)).collect();
    vec![Tensor::from_i64("sequences", &[result.sequences.len(), width], &ids)]
}

#[derive(Deserialize)]
struct Process {
    option: Value,
    input_ids: Vec<Vec<u32>>,
}

pub fn process(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Process = parse("process_scores", call.request)?;
    call.tensors.only(&["scores"])?;
    let Some((mut scores, dims)) = call.tensors.floats("scores")? else {
        return Err(invalid("scores: found none, expected [rows, vocabulary]"));
    };
    switch_generation::process_scores(&request.option, &request.input_ids, &mut scores)?;
    Ok(Reply { json: "{}".into(), tensors: vec![Tensor::from_f32("scores", &dims, &scores)] })
}
