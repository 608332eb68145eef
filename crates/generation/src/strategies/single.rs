//! Greedy decoding and sampling: every sequence on its own (the reference's `_sample`).

use super::records::Kind;
use super::shared::{refuse_nan, Shared};
use super::Decoder;
use crate::choice::{argmax, draw};
use crate::error::{GenerationError, INVALID_INPUT};
use crate::model::StepModel;
use crate::random::RandomStream;
use crate::result::{Candidate, GenerationResult, LiveRow, RowToken, StepReport};

struct Sequence {
    row: usize,
    /// Which of the row's.
    index: usize,
    ids: Vec<u32>,
    /// Chosen but not yet settled.
    next: Option<u32>,
    stop: bool,
    random: RandomStream,
}

impl Sequence {
    /// The number that the next token is drawn by.
    fn uniform(&self, shared: &Shared) -> Option<f64> {
        Some(self.random.uniform(shared.rows.get(self.row)?.step(&self.ids), 0))
    }
}

pub struct Single {
    /// `row * num_return_sequences + index`, which is also the slot.
    sequences: Vec<Sequence>,
    /// Those that have not finished, ascending.
    live: Vec<usize>,
    steps: usize,
}

impl Single {
    pub fn new(shared: &Shared) -> Self {
        let each = shared.options.num_return_sequences;
        let sequences: Vec<Sequence> = shared
            .rows
            .iter()
            .enumerate()
            .flat_map(|(row, facts)| {
                (0..each).map(move |index| Sequence {
                    row,
                    index,
                    ids: facts.prefix.clone(),
                    next: None,
                    stop: false,
                    random: shared.stream(row, index),
                })
            })
            .collect();
        let live = (0..sequences.len()).collect();
        Self { sequences, live, steps: 0 }
    }

    /// Feeds the prefix once for each row and lets the row's other sequences continue from it.
    fn begin(&self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        let each = shared.options.num_return_sequences;
        let slots = self.sequences.iter().enumerate();
        let inputs: Vec<(usize, &[u32])> =
            slots.filter(|(_, s)| s.index == 0).map(|(slot, s)| (slot, s.ids.as_slice())).collect();
        shared.feed(model, &inputs, true)?;
        shared.repeat_scores(each);
        if each > 1 && shared.options.use_cache {
            let moves: Vec<(usize, usize)> = (0..self.sequences.len())
                .filter(|slot| slot % each > 0)
                .map(|slot| (slot, slot - slot % each))
                .collect();
            model.reorder(&moves)?;
        }
        Ok(())
    }

    fn end(&mut self, slot: usize, model: &mut dyn StepModel) {
        model.release(slot);
        self.live.retain(|live| *live != slot);
    }
}

impl Decoder for Single {
    fn done(&self) -> bool {
        self.live.is_empty()
    }

    fn advance(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        if self.steps == 0 {
            self.begin(shared, model)?;
        } else {
            let live = self.live.iter().filter_map(|slot| Some((*slot, self.sequences.get(*slot)?.ids.as_slice())));
            let inputs: Vec<(usize, &[u32])> = live.collect();
            match shared.rule(model) {
                None => shared.feed(model, &inputs, false)?,
                Some(rule) => {
                    let uniforms: Vec<f64> =
                        self.live.iter().filter_map(|slot| self.sequences.get(*slot)?.uniform(shared)).collect();
                    if let Some(tokens) = shared.feed_and_choose(model, &inputs, &rule, &uniforms)? {
                        for (slot, token) in self.live.iter().zip(tokens) {
                            if let Some(sequence) = self.sequences.get_mut(*slot) {
                                sequence.next = Some(token);
                            }
                        }
                        return Ok(());
                    }
                }
            }
        }
        shared.records.begin(self.sequences.len(), shared.vocab_size)?;
        let Shared { scores, pipeline, records, rows, vocab_size, .. } = shared;
        for (slot, scores) in self.live.iter().zip(scores.chunks_mut(*vocab_size)) {
            let Some(sequence) = self.sequences.get(*slot) else { continue };
            let Some(facts) = rows.get(sequence.row) else { continue };
            records.write(Kind::Logits, *slot, scores);
            pipeline.process(&facts.context(&sequence.ids, &[]), scores);
        }
        Ok(())
    }

    fn live_rows(&self) -> usize {
        self.live.len()
    }

    fn live_row(&self, index: usize) -> Option<LiveRow<'_>> {
        let sequence = self.sequences.get(*self.live.get(index)?)?;
        Some(LiveRow { row: sequence.row, index: sequence.index, ids: &sequence.ids })
    }

    fn choose(&mut self, shared: &mut Shared, _: &mut dyn StepModel, out_of_time: bool) -> Result<(), GenerationError> {
        let do_sample = shared.options.do_sample;
        let Shared { scores, pipeline, records, rows, vocab_size, options, .. } = shared;
        let mut all_scores = scores.chunks_mut(*vocab_size);
        for slot in &self.live {
            let Some(sequence) = self.sequences.get_mut(*slot) else { continue };
            let Some(facts) = rows.get(sequence.row) else { continue };
            let ends = |ids: &[u32], token| {
                out_of_time || ids.len() + 1 >= facts.max_length || options.eos_token_id.contains(&token)
            };
            // Chosen by the model.
            if let Some(token) = sequence.next {
                sequence.stop = ends(&sequence.ids, token);
                continue;
            }
            let Some(scores) = all_scores.next() else { continue };
            refuse_nan(scores, sequence.row)?;
            pipeline.warp(&facts.context(&sequence.ids, &[]), scores);
            records.write(Kind::Scores, *slot, scores);
            let token = if do_sample {
                let uniform = sequence.random.uniform(facts.step(&sequence.ids), 0);
                draw(scores, uniform, &mut pipeline.scratch).ok_or_else(|| no_distribution(sequence.row))?
            } else {
                u32::try_from(argmax(scores)).unwrap_or(0)
            };
            sequence.next = Some(token);
            sequence.stop = ends(&sequence.ids, token);
        }
        Ok(())
    }

    fn candidates(&self) -> usize {
        self.live.len()
    }

    fn candidate(&self, index: usize) -> Option<Candidate> {
        let sequence = self.sequences.get(*self.live.get(index)?)?;
        let ids = sequence.ids.iter().copied().chain(sequence.next).collect();
        Some(Candidate { row: sequence.row, index: sequence.index, ids })
    }

    fn stop_candidate(&mut self, index: usize) {
        let sequence = self.live.get(index).and_then(|slot| self.sequences.get_mut(*slot));
        if let Some(sequence) = sequence {
            sequence.stop = true;
        }
    }

    fn commit(&mut self, _: &mut Shared, model: &mut dyn StepModel) -> Result<StepReport, GenerationError> {
        let mut report = StepReport::default();
        for slot in &self.live {
            let Some(sequence) = self.sequences.get_mut(*slot) else { continue };
            if let Some(token) = sequence.next.take() {
                sequence.ids.push(token);
                report.tokens.push(RowToken { row: *slot, token });
            }
            if sequence.stop {
                report.finished.push(*slot);
            }
        }
        for slot in &report.finished {
            self.end(*slot, model);
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
        padded(self.sequences.into_iter().map(|sequence| sequence.ids).collect(), shared, self.steps)
    }
}

/// A result of sequences, made equally long with padding.
pub fn padded(mut sequences: Vec<Vec<u32>>, shared: Shared, steps: usize) -> GenerationResult {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    for sequence in &mut sequences {
        sequence.resize(longest, shared.options.padding());
    }
    GenerationResult {
        sequences,
        lengths,
        scores: shared.records.scores,
        logits: shared.records.logits,
        steps,
        ..GenerationResult::default()
    }
}

fn no_distribution(row: usize) -> GenerationError {
    GenerationError::new(
        INVALID_INPUT,
        format!(
            "row {row} has no token left to draw: every score is minus infinity, or one is plus infinity; loosen the \
             options that forbid tokens, or correct the logits_processor"
        ),
    )
}
