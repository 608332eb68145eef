//! The forward pass of every class, with what was asked for and nothing else in the reply.

use candle_core::Tensor as Candle;
use serde::Deserialize;
use serde_json::json;
use switch_model::{
    batched, cross_entropy, router_losses, token_log_probs, Architecture, DecoderCache, ModelError, Profile, Rows,
    SwitchTransformers, Tokens, Trace, IGNORE_INDEX,
};

use super::Call;
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::memory;
use crate::request::{parse, Tensors};
use crate::wire::{Reply, Tensor};

#[derive(Deserialize)]
struct Forward {
    model: u32,
    outputs: Vec<String>,
    #[serde(default)]
    past_key_values: Option<u32>,
    #[serde(default)]
    use_cache: bool,
    /// Adds the routers' losses to `loss`, as in the reference.
    #[serde(default)]
    output_router_logits: bool,
    /// Tells where the time went.
    #[serde(default)]
    profile: bool,
}

const INPUTS: &[&str] = &[
    "input_ids",
    "inputs_embeds",
    "attention_mask",
    "decoder_input_ids",
    "decoder_inputs_embeds",
    "decoder_attention_mask",
    "encoder_hidden_states",
    "labels",
];

const OUTPUTS: &[&str] = &[
    "logits",
    "last_hidden_state",
    "loss",
    "cross_entropy",
    "token_log_probs",
    "encoder_z_loss",
    "encoder_aux_loss",
    "decoder_z_loss",
    "decoder_aux_loss",
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "encoder_attentions",
    "encoder_router_logits",
    "encoder_routes",
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
    "decoder_router_logits",
    "decoder_routes",
    "hidden_states",
    "attentions",
    "router_logits",
    "routes",
    "router_weights",
];

pub fn forward(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Forward = parse("model_forward", call.request)?;
    if let Some(name) = request.outputs.iter().find(|name| !OUTPUTS.contains(&name.as_str())) {
        return Err(Failure::new("INVALID_OPTION", format!("outputs: found {name:?}, expected some of {OUTPUTS:?}")));
    }
    let model = handles::model(request.model)?;
    let pass = Pass { model: &model, request: &request, tensors: &call.tensors, out: Vec::new() };
    let run = || match model.architecture() {
        Architecture::Router | Architecture::SparseMlp => pass.module(),
        Architecture::Encoder => pass.encoder_only(),
        Architecture::Model | Architecture::ConditionalGeneration => pass.sequence(),
    };
    if !request.profile {
        return run();
    }
    let mut profile = Profile::default();
    let mut reply = profile.record(crate::now_ms, run)?;
    let mut json: serde_json::Value = serde_json::from_str(&reply.json).unwrap_or_default();
    json["profile"] = json!(profile);
    reply.json = json.to_string();
    Ok(reply)
}

struct Pass<'a> {
    model: &'a SwitchTransformers,
    request: &'a Forward,
    tensors: &'a Tensors,
    out: Vec<Tensor>,
}

/// What a stack reads, and its rows.
struct StackInput {
    ids: Vec<u32>,
    embeds: Option<Candle>,
    batch: usize,
    len: usize,
}

impl StackInput {
    fn tokens(&self) -> Tokens<'_> {
        match &self.embeds {
            Some(embeds) => Tokens::Embeds(embeds.clone()),
            None => Tokens::Ids(&self.ids),
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("INVALID_INPUT", message)
}

impl Pass<'_> {
    fn wants(&self, name: &str) -> bool {
        self.request.outputs.iter().any(|o| o == name)
    }

    fn trace(&self, stack: &str, losses: bool) -> Trace {
        let wants = |what: &str| {
            self.wants(&format!("{stack}_{what}"))
                || (self.model.architecture() == Architecture::Encoder && self.wants(what))
        };
        Trace {
            want_hidden_states: wants("hidden_states"),
            want_attentions: wants("attentions"),
            want_cross_attentions: stack == "decoder" && self.wants("cross_attentions"),
            want_router_logits: wants("router_logits") || losses,
            want_routes: wants("routes"),
            ..Trace::default()
        }
    }

    fn push(&mut self, name: &str, tensor: &Candle) -> Result<(), Failure> {
        self.out.push(Tensor::from_candle(name, tensor)?);
        Ok(())
    }

    fn scalar(&mut self, name: &str, value: f32) {
        if self.wants(name) {
            self.out.push(Tensor::from_f32(name, &[], &[value]));
        }
    }

    /// Whichever of ids and embeddings was given under these names.
    fn stack_input(&self, ids: &str, embeds: &str) -> Result<Option<StackInput>, Failure> {
        let vocab_size = self.model.config().vocab_size;
        match (self.tensors.ids(ids, vocab_size)?, self.tensors.vectors(embeds)?) {
            (Some(_), Some(_)) => Err(invalid(format!("found both {ids} and {embeds}, expected one of them"))),
            (Some(given), None) => {
                Ok(Some(StackInput { ids: given.ids, embeds: None, batch: given.rows, len: given.cols }))
            }
            (None, Some((embeds, batch, len))) => {
                Ok(Some(StackInput { ids: Vec::new(), embeds: Some(embeds), batch, len }))
            }
            (None, None) => Ok(None),
        }
    }

    fn module(mut self) -> Result<Reply, Failure> {
        self.tensors.only(&["hidden_states", "attention_mask"])?;
        let Some((x, batch, len)) = self.tensors.vectors("hidden_states")? else {
            return Err(invalid("hidden_states: found none, expected [batch, tokens, d_model]"));
        };
        let mask = self.tensors.mask("attention_mask", batch, &[len])?.map(|(mask, _)| mask);
        let rows = Rows::rectangle(batch, len, mask)?;
        let mut trace = Trace { want_router_logits: true, want_routes: true, ..Trace::default() };
        let output = self.model.module_forward(&x, &rows, &mut trace)?;
        if let (Some(output), true) = (output, self.wants("last_hidden_state")) {
            self.push("last_hidden_state", &batched(&output, &rows)?)?;
        }
        if let (Some(logits), true) = (trace.router_logits.first(), self.wants("router_logits")) {
            self.push("router_logits", &batched(logits, &rows)?)?;
        }
        if let Some(routes) = trace.routes.first() {
            let dims = [batch, len];
            if self.wants("routes") {
                self.out.push(Tensor::from_i32("routes", &dims, &routes.expert));
            }
            if self.wants("router_weights") {
                self.out.push(Tensor::from_f32("router_weights", &dims, &routes.weight));
            }
        }
        Ok(Reply { json: "{}".into(), tensors: self.out })
    }

    fn encoder_only(mut self) -> Result<Reply, Failure> {
        self.tensors.only(&INPUTS[..3])?;
        let mut trace = self.trace("encoder", false);
        let (output, rows) = self.encode(&mut trace)?;
        if self.wants("last_hidden_state") || self.wants("encoder_last_hidden_state") {
            self.push("last_hidden_state", &batched(&output, &rows)?)?;
        }
        self.records("", &trace, &rows)?;
        Ok(Reply { json: "{}".into(), tensors: self.out })
    }

    fn encode(&self, trace: &mut Trace) -> Result<(Candle, Rows), Failure> {
        let Some(input) = self.stack_input("input_ids", "inputs_embeds")? else {
            return Err(invalid("found neither input_ids nor inputs_embeds, expected one of them"));
        };
        let mask = self.tensors.mask("attention_mask", input.batch, &[input.len])?.map(|(mask, _)| mask);
        let tokens = input.batch * input.len;
        let pass = memory::Pass {
            encoder_tokens: tokens,
            recorded_attention: if trace.want_attentions { tokens as u128 * input.len as u128 } else { 0 },
            recorded_hidden: if trace.want_hidden_states { tokens as u128 } else { 0 },
            ..memory::Pass::default()
        };
        memory::check(self.model.config(), &pass)?;
        let rows = Rows::rectangle(input.batch, input.len, mask)?;
        Ok((self.model.encode(input.tokens(), &rows, trace)?, rows))
    }

    fn sequence(mut self) -> Result<Reply, Failure> {
        self.tensors.only(INPUTS)?;
        let config = std::sync::Arc::clone(self.model.config());
        let has_head = self.model.architecture() == Architecture::ConditionalGeneration;
        let labels = self.tensors.labels(config.vocab_size)?;
        if labels.is_some() && !has_head {
            return Err(invalid(
                "found labels, but this class has no head; use SwitchTransformersForConditionalGeneration",
            ));
        }
        let losses = self.request.output_router_logits && has_head;

        // With a cache from an earlier call the encoder's part is in it already.
        let past = match self.request.past_key_values {
            None => None,
            Some(handle) => match handles::take(handle)? {
                (Object::PastKeyValues(cache), owner) if owner == Some(self.request.model) => Some((handle, cache)),
                (other, owner) => {
                    let failure = match &other {
                        Object::PastKeyValues(_) => invalid("past_key_values are of another model"),
                        _ => handles::wrong_kind(handle, &other, "past_key_values"),
                    };
                    handles::put_back(handle, other, owner);
                    return Err(failure);
                }
            },
        };
        let mut encoder_trace = self.trace("encoder", losses);
        let result = match past {
            Some((handle, mut cache)) => {
                let result = self.decode(None, &config, labels.as_ref(), Some(&mut cache), losses);
                handles::put_back(handle, Object::PastKeyValues(cache), Some(self.request.model));
                result.map(|_| json!({ "past_key_values": handle }))?
            }
            None => {
                let (states, rows) = match self.tensors.vectors("encoder_hidden_states")? {
                    Some(_) if self.tensors.has("input_ids") || self.tensors.has("inputs_embeds") => {
                        return Err(invalid(
                            "found encoder_outputs beside input_ids or inputs_embeds, expected one of them",
                        ));
                    }
                    Some((states, batch, len)) => {
                        let mask = self.tensors.mask("attention_mask", batch, &[len])?.map(|(mask, _)| mask);
                        (states, Rows::rectangle(batch, len, mask)?)
                    }
                    None => self.encode(&mut encoder_trace)?,
                };
                if self.wants("encoder_last_hidden_state") {
                    self.push("encoder_last_hidden_state", &batched(&states, &rows)?)?;
                }
                self.records("encoder_", &encoder_trace, &rows)?;
                let encoder_losses = match losses {
                    true => {
                        let l = router_losses(&encoder_trace.router_logits, rows.count(), config.encoder_sparse_step)?;
                        self.scalar("encoder_z_loss", l.z_loss);
                        self.scalar("encoder_aux_loss", l.aux_loss);
                        (l.z_loss, l.aux_loss)
                    }
                    false => (0.0, 0.0),
                };
                if self.request.use_cache {
                    let row_of = (0..rows.count()).collect();
                    let mut cache = self.model.cache(&states, rows, row_of, 0)?;
                    self.decode(Some(encoder_losses), &config, labels.as_ref(), Some(&mut cache), losses)?;
                    let object = Object::PastKeyValues(Box::new(cache));
                    json!({ "past_key_values": handles::insert(object, Some(self.request.model))? })
                } else {
                    self.decode_whole(&states, &rows, encoder_losses, &config, labels.as_ref(), losses)?;
                    json!({})
                }
            }
        };
        Ok(Reply { json: result.to_string(), tensors: self.out })
    }

    /// Decoder ids, embeddings, or the labels shifted right (reference: `_shift_right`).
    fn decoder_input(
        &self,
        config: &switch_model::SwitchTransformersConfig,
        labels: Option<&(Vec<i64>, usize, usize)>,
    ) -> Result<StackInput, Failure> {
        if let Some(input) = self.stack_input("decoder_input_ids", "decoder_inputs_embeds")? {
            return Ok(input);
        }
        let Some((labels, batch, len)) = labels else {
            return Err(invalid("found no decoder input, expected decoder_input_ids, decoder_inputs_embeds or labels"));
        };
        let ids = shift_right(config, labels, *len)?;
        Ok(StackInput { ids, embeds: None, batch: *batch, len: *len })
    }

    fn check_decoder_memory(&self, input: &StackInput, encoder_tokens: usize, labels: bool) -> Result<(), Failure> {
        let tokens = input.batch * input.len;
        let attention = self.wants("decoder_attentions") || self.wants("cross_attentions");
        let keys = input.len + encoder_tokens / input.batch.max(1);
        let pass = memory::Pass {
            encoder_tokens,
            decoder_tokens: tokens,
            logits_tokens: if self.wants("logits") || labels { tokens } else { 0 },
            recorded_attention: if attention { tokens as u128 * keys as u128 } else { 0 },
            recorded_hidden: if self.wants("decoder_hidden_states") { tokens as u128 } else { 0 },
        };
        memory::check(self.model.config(), &pass)
    }

    fn decode_whole(
        &mut self,
        states: &Candle,
        encoder_rows: &Rows,
        encoder_losses: (f32, f32),
        config: &switch_model::SwitchTransformersConfig,
        labels: Option<&(Vec<i64>, usize, usize)>,
        losses: bool,
    ) -> Result<(), Failure> {
        let input = self.decoder_input(config, labels)?;
        self.check_decoder_memory(&input, encoder_rows.tokens(), labels.is_some())?;
        let mask = self.tensors.mask("decoder_attention_mask", input.batch, &[input.len])?.map(|(mask, _)| mask);
        let rows = Rows::rectangle(input.batch, input.len, mask)?;
        let mut trace = self.trace("decoder", losses);
        let output = self.model.decode(input.tokens(), &rows, states, encoder_rows, &mut trace)?;
        self.decoded(&output, &rows, &trace, encoder_losses, config, labels, losses)
    }

    fn decode(
        &mut self,
        encoder_losses: Option<(f32, f32)>,
        config: &switch_model::SwitchTransformersConfig,
        labels: Option<&(Vec<i64>, usize, usize)>,
        cache: Option<&mut DecoderCache>,
        losses: bool,
    ) -> Result<(), Failure> {
        let Some(cache) = cache else { return Err(ModelError::internal("no cache").into()) };
        let input = self.decoder_input(config, labels)?;
        if input.batch != cache.slots() {
            return Err(invalid(format!("found {} decoder rows, past_key_values hold {}", input.batch, cache.slots())));
        }
        self.check_decoder_memory(&input, 0, labels.is_some())?;
        let past = cache.len(0)?;
        // The mask covers what is cached too; only its last part is news.
        let mask = self.tensors.mask("decoder_attention_mask", input.batch, &[past + input.len, input.len])?;
        let mask: Option<Vec<u8>> = mask.map(|(mask, width)| {
            mask.chunks_exact(width).flat_map(|row| row[width - input.len..].iter().copied()).collect()
        });
        let slots: Vec<(usize, usize)> = (0..input.batch).map(|slot| (slot, input.len)).collect();
        let mut trace = self.trace("decoder", losses);
        let output = self.model.decode_cached(input.tokens(), &slots, mask.as_deref(), cache, &mut trace)?;
        let rows = Rows::rectangle(input.batch, input.len, mask)?;
        self.decoded(&output, &rows, &trace, encoder_losses.unwrap_or_default(), config, labels, losses)
    }

    #[allow(clippy::too_many_arguments)] // the parts of one result
    fn decoded(
        &mut self,
        output: &Candle,
        rows: &Rows,
        trace: &Trace,
        encoder_losses: (f32, f32),
        config: &switch_model::SwitchTransformersConfig,
        labels: Option<&(Vec<i64>, usize, usize)>,
        losses: bool,
    ) -> Result<(), Failure> {
        if self.wants("last_hidden_state") {
            self.push("last_hidden_state", &batched(output, rows)?)?;
        }
        let mut router_loss = 0.0;
        if losses {
            let l = router_losses(&trace.router_logits, rows.count(), config.decoder_sparse_step)?;
            self.scalar("decoder_z_loss", l.z_loss);
            self.scalar("decoder_aux_loss", l.aux_loss);
            router_loss = config.router_z_loss_coef * f64::from(encoder_losses.0 + l.z_loss)
                + config.router_aux_loss_coef * f64::from(encoder_losses.1 + l.aux_loss);
        }
        self.records("decoder_", trace, rows)?;
        let wants_loss =
            labels.is_some() && (["loss", "cross_entropy", "token_log_probs"].iter().any(|o| self.wants(o)));
        if self.wants("logits") || wants_loss {
            let logits = self.model.logits(output)?;
            if let (Some((labels, batch, len)), true) = (labels, wants_loss) {
                if (rows.count(), rows.common_len()) != (*batch, Some(*len)) {
                    let found = format!("found labels of [{batch}, {len}]");
                    let len = rows.common_len().unwrap_or(0);
                    return Err(invalid(format!("{found}, expected [{}, {len}] as the decoder input", rows.count())));
                }
                let values = logits.flatten_all()?.to_vec1::<f32>()?;
                let log_probs = token_log_probs(&values, config.vocab_size, labels)?;
                let loss = cross_entropy(&log_probs, labels);
                if self.wants("token_log_probs") {
                    self.out.push(Tensor::from_f32("token_log_probs", &[*batch, *len], &log_probs));
                }
                self.scalar("cross_entropy", loss);
                self.scalar("loss", (f64::from(loss) + router_loss) as f32);
            }
            if self.wants("logits") {
                self.push("logits", &batched(&logits, rows)?)?;
            }
        }
        Ok(())
    }

    /// What the trace recorded, under the reference's names.
    fn records(&mut self, prefix: &str, trace: &Trace, rows: &Rows) -> Result<(), Failure> {
        if trace.want_hidden_states {
            for (i, x) in trace.hidden_states.iter().enumerate() {
                self.push(&format!("{prefix}hidden_states.{i}"), &batched(x, rows)?)?;
            }
        }
        let attentions =
            [(format!("{prefix}attentions"), &trace.attentions), ("cross_attentions".into(), &trace.cross_attentions)];
        for (name, layers) in attentions {
            for (i, layer) in layers.iter().enumerate() {
                self.push(&format!("{name}.{i}"), &Candle::stack(layer, 0)?)?;
            }
        }
        if self.wants(&format!("{prefix}router_logits")) {
            for (i, logits) in trace.router_logits.iter().enumerate() {
                self.push(&format!("{prefix}router_logits.{i}"), &batched(logits, rows)?)?;
            }
        }
        for (i, routes) in trace.routes.iter().enumerate() {
            let dims = [rows.count(), rows.common_len().unwrap_or(0)];
            self.out.push(Tensor::from_i32(format!("{prefix}routes.{i}"), &dims, &routes.expert));
        }
        Ok(())
    }
}

/// Decoder ids from labels: the start token, then the labels but for the last; ignored ones become padding (reference:
/// `_shift_right`).
pub fn shift_right(
    config: &switch_model::SwitchTransformersConfig,
    labels: &[i64],
    len: usize,
) -> Result<Vec<u32>, Failure> {
    let (Some(start), Some(pad)) = (config.decoder_start_token_id, config.pad_token_id) else {
        return Err(Failure::new(
            "INVALID_CONFIG",
            "labels need decoder_start_token_id and pad_token_id, and the config lacks one; set both",
        ));
    };
    let mut ids = Vec::with_capacity(labels.len());
    for row in labels.chunks_exact(len.max(1)) {
        ids.push(start);
        let shifted = row.iter().take(len.saturating_sub(1));
        ids.extend(shifted.map(|id| if *id == IGNORE_INDEX { pad } else { u32::try_from(*id).unwrap_or(pad) }));
    }
    Ok(ids)
}
