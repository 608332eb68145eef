//! A generation in steps.

use crate::error::{GenerationError, INTERNAL};
use crate::model::StepModel;
use crate::options::GenerationOptions;
use crate::result::{Candidate, GenerationResult, LiveRow, StepReport};
use crate::setup::{self, RowInput};
use crate::strategies::{decoder, Decoder, Shared};

/// One `generate` call, advanced by the host.
///
/// [`step`](Self::step) does a whole step. A host with hooks does its three parts instead, looking in between:
/// [`advance`](Self::advance) computes scores, which [`live_row`](Self::live_row) and
/// [`scores_mut`](Self::scores_mut) show to logits processors; [`choose`](Self::choose) chooses from them, and
/// [`candidate`](Self::candidate) shows what, for stopping criteria; [`commit`](Self::commit) settles it.
/// (In diverse beam search such a round covers one group, and a step takes several rounds.)
///
/// Row results do not depend on the other rows. After an error the session is over; the model may be used by another.
pub struct Session {
    shared: Shared,
    decoder: Box<dyn Decoder>,
    phase: Phase,
    start_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Advance,
    Choose,
    Commit,
    Failed,
}

impl Session {
    /// Prepares a generation of `rows` for a model of `vocab_size` tokens.
    ///
    /// `seed` is used where the options have none. `now_ms` is the start of `max_time`, on the clock that later calls
    /// of [`choose`](Self::choose) read. Errors: `INVALID_INPUT` for rows that cannot be used, `INVALID_OPTION` for
    /// options that do not fit them.
    pub fn new(
        options: GenerationOptions,
        vocab_size: usize,
        rows: Vec<RowInput>,
        seed: u64,
        now_ms: f64,
    ) -> Result<Self, GenerationError> {
        let shared = setup::prepare(options, vocab_size, rows, seed)?;
        let decoder = decoder(&shared);
        Ok(Self { shared, decoder, phase: Phase::Advance, start_ms: now_ms })
    }

    pub fn options(&self) -> &GenerationOptions {
        &self.shared.options
    }

    /// Rows of the batch.
    pub fn batch_rows(&self) -> usize {
        self.shared.rows.len()
    }

    /// Rows of the output: `batch_rows * num_return_sequences`.
    pub fn output_rows(&self) -> usize {
        self.shared.rows.len() * self.shared.options.num_return_sequences
    }

    /// Whether every row has finished.
    pub fn done(&self) -> bool {
        self.decoder.done()
    }

    /// A whole step: advance, choose and commit.
    pub fn step(&mut self, model: &mut dyn StepModel, now_ms: f64) -> Result<StepReport, GenerationError> {
        let mut report = StepReport::default();
        loop {
            self.shared.unobserved = true;
            let advanced = self.advance(model);
            self.shared.unobserved = false;
            advanced?;
            self.choose(model, now_ms)?;
            let StepReport { tokens, finished, done } = self.commit(model)?;
            report.tokens.extend(tokens);
            report.finished.extend(finished);
            report.done = done;
            if done || !self.decoder.within_step() {
                return Ok(report);
            }
        }
    }

    /// Feeds the model and applies the options' logits processors.
    pub fn advance(&mut self, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        self.enter(Phase::Advance, Phase::Choose)?;
        if self.decoder.done() {
            return Ok(());
        }
        let outcome = self.decoder.advance(&mut self.shared, model);
        self.settle(outcome)
    }

    /// Rows of scores between `advance` and `choose`.
    pub fn live_rows(&self) -> usize {
        match self.phase {
            Phase::Choose if !self.decoder.done() => self.decoder.live_rows(),
            _ => 0,
        }
    }

    /// What the `index`-th row of scores belongs to.
    pub fn live_row(&self, index: usize) -> Option<LiveRow<'_>> {
        (index < self.live_rows()).then(|| self.decoder.live_row(index)).flatten()
    }

    /// The scores between `advance` and `choose`, `[live_rows, vocab_size]` row-major.
    pub fn scores(&self) -> &[f32] {
        &self.shared.scores
    }

    /// The scores, to be changed. NaN is refused by `choose`.
    pub fn scores_mut(&mut self) -> &mut [f32] {
        &mut self.shared.scores
    }

    /// Applies the warpers and chooses. `now_ms` is compared with `max_time`.
    pub fn choose(&mut self, model: &mut dyn StepModel, now_ms: f64) -> Result<(), GenerationError> {
        self.enter(Phase::Choose, Phase::Commit)?;
        if self.decoder.done() {
            return Ok(());
        }
        let seconds = (now_ms - self.start_ms) / 1000.0;
        let out_of_time = self.shared.options.max_time.is_some_and(|limit| seconds > limit);
        let outcome = self.decoder.choose(&mut self.shared, model, out_of_time);
        self.settle(outcome)
    }

    /// Continuations between `choose` and `commit`: one for each live sequence, or all that beam search considers.
    pub fn candidates(&self) -> usize {
        match self.phase {
            Phase::Commit if !self.decoder.done() => self.decoder.candidates(),
            _ => 0,
        }
    }

    /// The `index`-th continuation.
    pub fn candidate(&self, index: usize) -> Option<Candidate> {
        (index < self.candidates()).then(|| self.decoder.candidate(index)).flatten()
    }

    /// Stops the `index`-th continuation after its new token, as a stopping criterion of the reference does.
    pub fn stop_candidate(&mut self, index: usize) {
        if index < self.candidates() {
            self.decoder.stop_candidate(index);
        }
    }

    /// Settles the choice: appends tokens, ends rows, reorders and frees the model's slots.
    pub fn commit(&mut self, model: &mut dyn StepModel) -> Result<StepReport, GenerationError> {
        self.enter(Phase::Commit, Phase::Advance)?;
        if self.decoder.done() {
            return Ok(StepReport { done: true, ..StepReport::default() });
        }
        let outcome = self.decoder.commit(&mut self.shared, model);
        self.settle(outcome)
    }

    /// Ends an output row between steps, as it is. With beams, ends its batch row with the best found so far.
    pub fn stop_row(&mut self, row: usize, model: &mut dyn StepModel) {
        if self.phase == Phase::Advance {
            self.decoder.stop_row(&mut self.shared, row, model);
        }
    }

    /// The result so far. Rows that have not finished are given as they are.
    pub fn finish(self) -> GenerationResult {
        self.decoder.finish(self.shared)
    }

    fn enter(&mut self, expected: Phase, next: Phase) -> Result<(), GenerationError> {
        if self.phase != expected {
            return Err(GenerationError::new(
                INTERNAL,
                format!("a session in phase {:?} was asked for {expected:?}", self.phase),
            ));
        }
        self.phase = next;
        Ok(())
    }

    fn settle<T>(&mut self, outcome: Result<T, GenerationError>) -> Result<T, GenerationError> {
        if outcome.is_err() {
            self.phase = Phase::Failed;
        }
        outcome
    }
}
