//! A session over the real model, and the model as a session sees it.

use std::sync::Arc;

use serde_json::json;
use switch_generation::{GenerationError, Session, StepInput, StepModel, StepReport};
use switch_model::{select, DecoderCache, ModelError, SwitchTransformers, Tokens};

use super::{invalid, records::Records};
use crate::failure::Failure;
use crate::request::Floats;
use crate::wire::{Reply, Tensor};

pub struct GenerationSession {
    pub session: Session,
    pub steps: ModelSteps,
    /// Whether the host sees every step's scores before the choice.
    pub pause_at_scores: bool,
    pub paused: bool,
}

impl GenerationSession {
    /// Up to `max_steps` steps, or until `max_ms` have passed. While paused, one call chooses and returns, the next
    /// advances to the next pause: rows can be stopped in between.
    pub fn advance(
        &mut self,
        max_steps: usize,
        max_ms: Option<f64>,
        stop: &[usize],
        scores: Option<Floats>,
    ) -> Result<Reply, Failure> {
        let mut tokens = Vec::new();
        let mut steps = 0;
        if self.paused {
            self.paused = false;
            if let Some((scores, dims)) = scores {
                let held = self.session.scores_mut();
                if scores.len() != held.len() {
                    return Err(invalid(format!(
                        "scores: found {dims:?}, expected {} values as handed out",
                        held.len()
                    )));
                }
                held.copy_from_slice(&scores);
            }
            self.session.choose(&mut self.steps, crate::now_ms())?;
            note(&mut tokens, &self.session.commit(&mut self.steps)?);
            return Ok(self.reply(&tokens, 1));
        }
        for row in stop {
            if *row >= self.session.output_rows() {
                return Err(invalid(format!(
                    "stop: found row {row}, expected one below {}",
                    self.session.output_rows()
                )));
            }
            self.session.stop_row(*row, &mut self.steps);
        }
        let start = crate::now_ms();
        while steps < max_steps.max(1) && !self.session.done() {
            if self.pause_at_scores {
                self.session.advance(&mut self.steps)?;
                self.paused = true;
                return Ok(self.pause());
            }
            note(&mut tokens, &self.session.step(&mut self.steps, crate::now_ms())?);
            steps += 1;
            if max_ms.is_some_and(|limit| crate::now_ms() - start >= limit) {
                break;
            }
        }
        Ok(self.reply(&tokens, steps))
    }

    fn reply(&self, tokens: &[(usize, u32)], steps: usize) -> Reply {
        super::reply(json!({ "tokens": tokens, "steps": steps, "done": self.session.done() }))
    }

    fn pause(&self) -> Reply {
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
}

fn note(tokens: &mut Vec<(usize, u32)>, report: &StepReport) {
    tokens.extend(report.tokens.iter().map(|t| (t.row, t.token)));
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
        self.records.decoded(&segments, &trace);
        Ok((output, last))
    }

    fn logits_of(&self, output: &candle_core::Tensor, logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        let values = self.model.logits(output).map_err(model_error)?;
        *logits =
            values.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(|e| model_error(ModelError::from(e)))?;
        Ok(())
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
