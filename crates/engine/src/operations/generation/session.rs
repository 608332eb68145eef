//! A session over the real model, and the model as a session sees it.

use std::sync::Arc;

use serde_json::json;
use switch_generation::{GenerationError, Session, StepInput, StepModel, StepReport, TokenRule};
use switch_model::{measure, select, DecoderCache, ModelError, Part, Profile, SwitchTransformers, TokenChoice, Tokens};

use super::{invalid, records::Records};
use crate::failure::Failure;
use crate::request::Floats;
use crate::wire::{Reply, Tensor};

/// Where a session with pauses has stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Paused {
    #[default]
    No,
    /// A step's scores are ready; nothing is chosen from them.
    AtScores,
    /// Continuations are chosen; nothing is settled.
    AtCandidates,
}

/// What the host brings to a call of `generation_step`.
#[derive(Default)]
pub struct Advance {
    pub max_steps: usize,
    pub max_ms: Option<f64>,
    /// Output rows to end before the next step.
    pub stop: Vec<usize>,
    /// Candidates, by index, to end after their new token.
    pub stop_candidates: Vec<usize>,
    /// The scores of the last pause, changed.
    pub scores: Option<Floats>,
}

pub struct GenerationSession {
    session: Session,
    steps: ModelSteps,
    /// Whether the host sees every step's scores before the choice.
    pause_at_scores: bool,
    /// Whether the host sees every continuation before it is settled.
    pause_at_candidates: bool,
    paused: Paused,
    profile: Option<Profile>,
}

impl GenerationSession {
    /// `pauses`: at scores, and at candidates.
    pub fn new(session: Session, steps: ModelSteps, pauses: (bool, bool), profile: Option<Profile>) -> Self {
        let (pause_at_scores, pause_at_candidates) = pauses;
        Self { session, steps, pause_at_scores, pause_at_candidates, paused: Paused::No, profile }
    }

    pub fn into_parts(self) -> (Session, ModelSteps, Option<Profile>) {
        (self.session, self.steps, self.profile)
    }

    /// Up to `max_steps` steps, or until `max_ms` have passed. A session with pauses goes on to the next one, and
    /// returns after every settled step, so that rows can be stopped before the next begins.
    pub fn advance(&mut self, call: Advance) -> Result<Reply, Failure> {
        let mut profile = self.profile.take();
        let result = super::recorded(&mut profile, || measure(Part::Sampling, || self.run(call)));
        self.profile = profile;
        result
    }

    fn run(&mut self, call: Advance) -> Result<Reply, Failure> {
        if self.pause_at_scores || self.pause_at_candidates {
            return self.run_to_pause(call);
        }
        self.stop_rows(&call.stop)?;
        let mut told = Told::default();
        let mut steps = 0;
        let start = crate::now_ms();
        while steps < call.max_steps.max(1) && !self.session.done() {
            let report = self.session.step(&mut self.steps, crate::now_ms())?;
            self.note(&mut told, &report);
            steps += 1;
            if call.max_ms.is_some_and(|limit| crate::now_ms() - start >= limit) {
                break;
            }
        }
        Ok(self.reply(&told, steps))
    }

    fn run_to_pause(&mut self, call: Advance) -> Result<Reply, Failure> {
        if self.paused == Paused::No {
            self.stop_rows(&call.stop)?;
            if self.session.done() {
                return Ok(self.reply(&Told::default(), 0));
            }
            self.session.advance(&mut self.steps)?;
            if self.pause_at_scores {
                self.paused = Paused::AtScores;
                return Ok(self.scores_pause());
            }
        }
        if self.paused != Paused::AtCandidates {
            if let Some((scores, dims)) = call.scores {
                let held = self.session.scores_mut();
                if scores.len() != held.len() {
                    let expected = held.len();
                    return Err(invalid(format!("scores: found {dims:?}, expected {expected} values as handed out")));
                }
                held.copy_from_slice(&scores);
            }
            self.session.choose(&mut self.steps, crate::now_ms())?;
            if self.pause_at_candidates {
                self.paused = Paused::AtCandidates;
                return Ok(self.candidates_pause());
            }
        }
        for candidate in call.stop_candidates {
            if candidate >= self.session.candidates() {
                let expected = self.session.candidates();
                return Err(invalid(format!("stop_candidates: found {candidate}, expected one below {expected}")));
            }
            self.session.stop_candidate(candidate);
        }
        self.paused = Paused::No;
        let report = self.session.commit(&mut self.steps)?;
        let mut told = Told::default();
        self.note(&mut told, &report);
        Ok(self.reply(&told, 1))
    }

    fn stop_rows(&mut self, rows: &[usize]) -> Result<(), Failure> {
        for row in rows {
            if *row >= self.session.output_rows() {
                let expected = self.session.output_rows();
                return Err(invalid(format!("stop: found row {row}, expected one below {expected}")));
            }
            self.session.stop_row(*row, &mut self.steps);
        }
        Ok(())
    }

    fn note(&self, told: &mut Told, report: &StepReport) {
        for new in &report.tokens {
            told.tokens.push((new.row, new.token));
            if self.steps.records.needs_single_rows() {
                told.routes.push(self.steps.records.last_routes(new.row));
            }
        }
    }

    fn reply(&self, told: &Told, steps: usize) -> Reply {
        let mut answer = json!({ "tokens": told.tokens, "steps": steps, "done": self.session.done() });
        if self.steps.records.needs_single_rows() {
            answer["routes"] = json!(told.routes);
        }
        super::reply(answer)
    }

    fn scores_pause(&self) -> Reply {
        let count = self.session.live_rows();
        let rows: Vec<_> = (0..count).filter_map(|i| self.session.live_row(i)).collect();
        let json = json!({
            "tokens": [],
            "steps": 0,
            "done": false,
            "paused": {
                "rows": rows.iter().map(|r| r.row).collect::<Vec<_>>(),
                "input_ids": rows.iter().map(|r| r.ids).collect::<Vec<_>>(),
            },
        });
        let scores = Tensor::from_f32("scores", &[count, self.steps.vocab_size()], self.session.scores());
        Reply { json: json.to_string(), tensors: vec![scores] }
    }

    fn candidates_pause(&self) -> Reply {
        let candidates: Vec<_> = (0..self.session.candidates()).filter_map(|i| self.session.candidate(i)).collect();
        super::reply(json!({
            "tokens": [],
            "steps": 0,
            "done": false,
            "candidates": {
                "rows": candidates.iter().map(|c| c.row).collect::<Vec<_>>(),
                "input_ids": candidates.iter().map(|c| &c.ids).collect::<Vec<_>>(),
            },
        }))
    }
}

/// What a reply tells of the steps behind it.
#[derive(Default)]
struct Told {
    /// `(row, token)` in the order in which they were chosen.
    tokens: Vec<(usize, u32)>,
    /// Beside each token, where routes are recorded: the experts at the position that chose it.
    routes: Vec<Vec<i32>>,
}

/// The model with its cache, as [`StepModel`].
pub struct ModelSteps {
    model: Arc<SwitchTransformers>,
    cache: DecoderCache,
    records: Records,
}

fn model_error(error: ModelError) -> GenerationError {
    GenerationError::new(error.code, error.message)
}

impl ModelSteps {
    pub fn new(model: Arc<SwitchTransformers>, cache: DecoderCache, records: Records) -> Self {
        Self { model, cache, records }
    }

    pub fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    pub fn into_records(self) -> Records {
        self.records
    }

    /// Feeds the tokens: the decoder's output of every token, and which of them are each input's last.
    fn decode(&mut self, inputs: &[StepInput<'_>]) -> Result<(candle_core::Tensor, Vec<usize>), GenerationError> {
        measure(Part::Other, || self.decoded(inputs))
    }

    fn decoded(&mut self, inputs: &[StepInput<'_>]) -> Result<(candle_core::Tensor, Vec<usize>), GenerationError> {
        let tokens: Vec<u32> = inputs.iter().flat_map(|input| input.tokens.iter().copied()).collect();
        let segments: Vec<(usize, usize)> = inputs.iter().map(|input| (input.slot, input.tokens.len())).collect();
        let mut last = Vec::with_capacity(inputs.len());
        let mut end = 0;
        for (_, len) in &segments {
            end += len;
            last.push(end.saturating_sub(1));
        }
        let mut trace = self.records.decoder_trace();
        let output = self
            .model
            .decode_cached(Tokens::Ids(&tokens), &segments, None, &mut self.cache, &mut trace)
            .map_err(model_error)?;
        self.records.decoded(&segments, &trace).map_err(|e| model_error(ModelError::from(e)))?;
        Ok((output, last))
    }

    fn logits_of(&self, output: &candle_core::Tensor, logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        let values = self.model.logits(output).map_err(model_error)?;
        copy_values(&values, logits).map_err(|e| model_error(ModelError::from(e)))
    }
}

/// Copies a contiguous tensor's values into a buffer that is kept from step to step.
fn copy_values(tensor: &candle_core::Tensor, into: &mut Vec<f32>) -> candle_core::Result<()> {
    into.clear();
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(values), Some((start, end))) => {
            into.extend_from_slice(values.as_slice::<f32>()?.get(start..end).unwrap_or_default());
            Ok(())
        }
        _ => {
            drop(storage);
            into.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
            Ok(())
        }
    }
}

impl StepModel for ModelSteps {
    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    fn step(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        let (output, last) = self.decode(inputs)?;
        let output = match output.dims().first() == Some(&last.len()) {
            true => output,
            false => select(&output, &last).map_err(model_error)?,
        };
        self.logits_of(&output, logits)
    }

    fn chooses(&self) -> bool {
        !self.model.device().is_cpu()
    }

    fn step_and_choose(
        &mut self,
        inputs: &[StepInput<'_>],
        rule: &TokenRule,
        uniforms: Option<&[f64]>,
        logits: &mut Vec<f32>,
    ) -> Result<Option<Vec<u32>>, GenerationError> {
        let (output, last) = self.decode(inputs)?;
        let output = match output.dims().first() == Some(&last.len()) {
            true => output,
            false => select(&output, &last).map_err(model_error)?,
        };
        let scores = self.model.logits(&output).map_err(model_error)?;
        let TokenRule { temperature, top_k, top_p, .. } = *rule;
        let choice = TokenChoice { uniforms, temperature, top_k, top_p };
        let tokens = self.model.choose(&scores, &choice).map_err(model_error)?;
        if tokens.is_none() {
            copy_values(&scores, logits).map_err(|e| model_error(ModelError::from(e)))?;
        }
        Ok(tokens)
    }

    fn step_with_hidden(
        &mut self,
        inputs: &[StepInput<'_>],
        logits: &mut Vec<f32>,
        hidden: &mut Vec<f32>,
    ) -> Result<(), GenerationError> {
        let (output, last) = self.decode(inputs)?;
        *hidden =
            output.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(|e| model_error(ModelError::from(e)))?;
        self.logits_of(&select(&output, &last).map_err(model_error)?, logits)
    }

    fn reorder(&mut self, moves: &[(usize, usize)]) -> Result<(), GenerationError> {
        self.records.reorder(moves);
        self.cache.reorder(moves).map_err(model_error)
    }

    fn release(&mut self, slot: usize) {
        self.cache.release(slot);
    }

    fn reset(&mut self, slot: usize) -> Result<(), GenerationError> {
        self.cache.release(slot);
        Ok(())
    }
}
