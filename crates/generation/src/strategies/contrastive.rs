//! Contrastive search: of the `top_k` likeliest tokens the one whose hidden state is least like those before it (Su et
//! al., 2022), as `transformers` 4.53 did it, the last version to hold it.

use super::records::Kind;
use super::shared::{refuse_nan, Shared};
use super::Decoder;
use crate::choice::TopList;
use crate::error::{GenerationError, INTERNAL};
use crate::math;
use crate::model::{StepInput, StepModel};
use crate::result::{Candidate, GenerationResult, LiveRow, RowToken, StepReport};

struct Row {
    ids: Vec<u32>,
    /// Unit-length hidden states of `ids`, row-major.
    context: Vec<f32>,
    /// Logits of the next token, once a step has looked ahead.
    next_logits: Vec<f32>,
    /// Chosen but not yet settled: the token, its place among the candidates and its hidden state.
    chosen: Option<(u32, usize, Vec<f32>)>,
    stop: bool,
}

pub struct Contrastive {
    rows: Vec<Row>,
    live: Vec<usize>,
    /// Candidates, and slots, of each row.
    width: usize,
    alpha: f32,
    d_model: usize,
    steps: usize,
}

impl Contrastive {
    pub fn new(shared: &Shared) -> Self {
        let row = |prefix: &Vec<u32>| Row {
            ids: prefix.clone(),
            context: Vec::new(),
            next_logits: Vec::new(),
            chosen: None,
            stop: false,
        };
        Self {
            rows: shared.rows.iter().map(|facts| row(&facts.prefix)).collect(),
            live: (0..shared.rows.len()).collect(),
            width: shared.options.top_k,
            alpha: shared.options.penalty_alpha.unwrap_or(0.0) as f32,
            d_model: 0,
            steps: 0,
        }
    }

    /// Feeds the prefixes and lets every slot of a row continue from its first.
    fn begin(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        let rows = self.rows.iter().enumerate();
        let inputs: Vec<StepInput<'_>> =
            rows.map(|(row, state)| StepInput { slot: row * self.width, tokens: &state.ids }).collect();
        let mut hidden = Vec::new();
        model.step_with_hidden(&inputs, &mut shared.scores, &mut hidden)?;
        shared.check_logits(inputs.len())?;
        let tokens: usize = self.rows.iter().map(|row| row.ids.len()).sum();
        self.d_model =
            hidden.len().checked_div(tokens).filter(|d| *d > 0 && d * tokens == hidden.len()).ok_or_else(|| {
                GenerationError::new(
                    INTERNAL,
                    format!("the model gave {} hidden values for {tokens} tokens", hidden.len()),
                )
            })?;
        let mut states = hidden.chunks_mut(self.d_model);
        for row in &mut self.rows {
            for state in (&mut states).take(row.ids.len()) {
                normalize(state);
                row.context.extend_from_slice(state);
            }
        }
        let slots = (0..self.rows.len() * self.width).filter(|slot| slot % self.width > 0);
        let moves: Vec<(usize, usize)> = slots.map(|slot| (slot, slot - slot % self.width)).collect();
        if moves.is_empty() {
            return Ok(());
        }
        model.reorder(&moves)
    }

    fn end(&mut self, row: usize, model: &mut dyn StepModel) {
        (row * self.width..(row + 1) * self.width).for_each(|slot| model.release(slot));
        self.live.retain(|live| *live != row);
    }
}

impl Decoder for Contrastive {
    fn done(&self) -> bool {
        self.live.is_empty()
    }

    fn advance(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        if self.steps == 0 {
            self.begin(shared, model)?;
        } else {
            shared.scores.clear();
            for row in self.live.iter().filter_map(|row| self.rows.get(*row)) {
                shared.scores.extend_from_slice(&row.next_logits);
            }
        }
        shared.records.begin(self.rows.len(), shared.vocab_size)?;
        let Shared { scores, pipeline, records, rows, vocab_size, .. } = shared;
        for (row, scores) in self.live.iter().zip(scores.chunks_mut(*vocab_size)) {
            let (Some(state), Some(facts)) = (self.rows.get(*row), rows.get(*row)) else { continue };
            records.write(Kind::Logits, *row, scores);
            pipeline.process(&facts.context(&state.ids, &[]), scores);
        }
        Ok(())
    }

    fn live_rows(&self) -> usize {
        self.live.len()
    }

    fn live_row(&self, index: usize) -> Option<LiveRow<'_>> {
        let row = *self.live.get(index)?;
        Some(LiveRow { row, index: 0, ids: &self.rows.get(row)?.ids })
    }

    fn choose(
        &mut self,
        shared: &mut Shared,
        model: &mut dyn StepModel,
        out_of_time: bool,
    ) -> Result<(), GenerationError> {
        let mut tokens: Vec<u32> = Vec::with_capacity(self.live.len() * self.width);
        let mut probabilities: Vec<f32> = Vec::with_capacity(tokens.capacity());
        let Shared { scores, pipeline, records, rows, vocab_size, .. } = shared;
        for (row, scores) in self.live.iter().zip(scores.chunks_mut(*vocab_size)) {
            let (Some(state), Some(facts)) = (self.rows.get(*row), rows.get(*row)) else { continue };
            refuse_nan(scores, *row)?;
            pipeline.warp(&facts.context(&state.ids, &[]), scores);
            records.write(Kind::Scores, *row, scores);
            math::log_softmax_in_place(scores);
            let mut top = TopList::new(self.width);
            top.offer_row(scores, 0.0, 0);
            for ranked in top.into_best() {
                tokens.push(u32::try_from(ranked.place).unwrap_or(0));
                probabilities.push(math::exp(ranked.score));
            }
        }
        let slots = self.live.iter().flat_map(|row| row * self.width..(row + 1) * self.width);
        let inputs: Vec<StepInput<'_>> =
            slots.zip(&tokens).map(|(slot, token)| StepInput { slot, tokens: std::slice::from_ref(token) }).collect();
        let mut hidden = Vec::new();
        model.step_with_hidden(&inputs, &mut shared.scores, &mut hidden)?;
        shared.check_logits(inputs.len())?;
        let of_row = self.width * self.d_model;
        if hidden.len() != self.live.len() * of_row {
            let message = format!("the model gave {} hidden values for {} tokens", hidden.len(), tokens.len());
            return Err(GenerationError::new(INTERNAL, message));
        }
        let candidates = tokens.chunks(self.width).zip(probabilities.chunks(self.width)).zip(hidden.chunks_mut(of_row));
        let logits = shared.scores.chunks(self.width * shared.vocab_size);
        for (row, (((tokens, probabilities), hidden), logits)) in self.live.iter().zip(candidates.zip(logits)) {
            let (Some(state), Some(facts)) = (self.rows.get_mut(*row), shared.rows.get(*row)) else { continue };
            hidden.chunks_mut(self.d_model).for_each(normalize);
            let place = rank(&state.context, probabilities, hidden, self.d_model, self.alpha);
            let token = tokens.get(place).copied().unwrap_or(0);
            let chosen_state = hidden.chunks(self.d_model).nth(place).unwrap_or(&[]).to_vec();
            state.chosen = Some((token, place, chosen_state));
            state.next_logits.clear();
            state.next_logits.extend_from_slice(logits.chunks(shared.vocab_size).nth(place).unwrap_or(&[]));
            let full = state.ids.len() + 1 >= facts.max_length;
            state.stop = out_of_time || full || shared.options.eos_token_id.contains(&token);
        }
        Ok(())
    }

    fn candidates(&self) -> usize {
        self.live.len()
    }

    fn candidate(&self, index: usize) -> Option<Candidate> {
        let row = *self.live.get(index)?;
        let state = self.rows.get(row)?;
        let token = state.chosen.as_ref().map(|(token, _, _)| *token);
        Some(Candidate { row, index: 0, ids: state.ids.iter().copied().chain(token).collect() })
    }

    fn stop_candidate(&mut self, index: usize) {
        if let Some(row) = self.live.get(index).and_then(|row| self.rows.get_mut(*row)) {
            row.stop = true;
        }
    }

    fn commit(&mut self, _: &mut Shared, model: &mut dyn StepModel) -> Result<StepReport, GenerationError> {
        let mut report = StepReport::default();
        let mut moves = Vec::new();
        for row in &self.live {
            let Some(state) = self.rows.get_mut(*row) else { continue };
            let Some((token, place, hidden)) = state.chosen.take() else { continue };
            state.ids.push(token);
            state.context.extend(hidden);
            report.tokens.push(RowToken { row: *row, token });
            if state.stop {
                report.finished.push(*row);
                continue;
            }
            let first = row * self.width;
            moves.extend((0..self.width).filter(|slot| *slot != place).map(|slot| (first + slot, first + place)));
        }
        if !moves.is_empty() {
            model.reorder(&moves)?;
        }
        for row in &report.finished {
            self.end(*row, model);
        }
        self.steps += 1;
        report.done = self.done();
        Ok(report)
    }

    fn stop_row(&mut self, _: &mut Shared, row: usize, model: &mut dyn StepModel) {
        if self.live.contains(&row) {
            self.end(row, model);
        }
    }

    fn finish(self: Box<Self>, shared: Shared) -> GenerationResult {
        let sequences = self.rows.into_iter().map(|row| row.ids).collect();
        super::single::padded(sequences, shared, self.steps)
    }
}

/// The candidate that is likeliest and least like what came before it, the first among equals.
fn rank(context: &[f32], probabilities: &[f32], hidden: &[f32], d_model: usize, alpha: f32) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, (probability, state)) in probabilities.iter().zip(hidden.chunks(d_model)).enumerate() {
        let likeness = context.chunks(d_model).map(|earlier| dot(earlier, state)).fold(f32::NEG_INFINITY, f32::max);
        let score = (1.0 - alpha) * probability - alpha * likeness;
        if score > best.1 {
            best = (place, score);
        }
    }
    best.0
}

/// Makes a vector of length 1; one of length 0 stays as it is.
fn normalize(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}
