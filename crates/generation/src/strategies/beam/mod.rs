//! Beam search and beam sampling, as the reference's `_beam_search` (`transformers` 5.18.0) does them for each row.
//!
//! The reference goes on with all rows until none can improve; a row that cannot improve keeps its result. So a row may
//! leave at that point, and its result does not depend on the others.

mod row;

use self::row::{BeamRow, Settings};
use super::hypothesis::collect;
use super::records::Kind;
use super::shared::{refuse_nan, Shared};
use super::Decoder;
use crate::choice::{Ranked, TopList};
use crate::error::GenerationError;
use crate::math;
use crate::model::StepModel;
use crate::result::{Candidate, GenerationResult, LiveRow, StepReport};

pub struct BeamSearch {
    settings: Settings,
    rows: Vec<BeamRow>,
    /// Rows that have not finished, ascending.
    live: Vec<usize>,
    steps: usize,
}

impl BeamSearch {
    pub fn new(shared: &Shared) -> Self {
        let settings = Settings::new(&shared.options);
        let rows: Vec<BeamRow> = shared.rows.iter().map(|facts| BeamRow::new(facts, &settings)).collect();
        let live = (0..rows.len()).collect();
        Self { settings, rows, live, steps: 0 }
    }

    fn feed(&self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        let first = self.steps == 0;
        let beams = self.settings.num_beams;
        // All beams of a row begin alike: the prefix is fed once.
        let fed = if first { 1 } else { beams };
        let mut hypotheses = Vec::with_capacity(self.live.len() * fed);
        for row in &self.live {
            let running = self.rows.get(*row).map_or(&[][..], |state| &state.running);
            hypotheses
                .extend(running.iter().take(fed).enumerate().map(|(beam, h)| (row * beams + beam, h.ids.as_slice())));
        }
        shared.feed(model, &hypotheses, first)?;
        if first {
            shared.repeat_scores(beams);
        }
        Ok(())
    }

    /// Ends a row: its slots are free.
    fn end(&mut self, row: usize, model: &mut dyn StepModel) {
        for beam in 0..self.settings.num_beams {
            model.release(row * self.settings.num_beams + beam);
        }
        self.live.retain(|live| *live != row);
    }
}

impl Decoder for BeamSearch {
    fn done(&self) -> bool {
        self.live.is_empty()
    }

    fn advance(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        self.feed(shared, model)?;
        let beams = self.settings.num_beams;
        shared.records.begin(self.rows.len() * beams, shared.vocab_size)?;
        let Shared { scores, pipeline, records, rows, vocab_size, .. } = shared;
        for (row, scores) in self.live.iter().zip(scores.chunks_mut(*vocab_size * beams)) {
            let (Some(state), Some(facts)) = (self.rows.get(*row), rows.get(*row)) else { continue };
            for (beam, (hypothesis, scores)) in state.running.iter().zip(scores.chunks_mut(*vocab_size)).enumerate() {
                records.write(Kind::Logits, row * beams + beam, scores);
                math::log_softmax_in_place(scores);
                pipeline.process(&facts.context(&hypothesis.ids, &[]), scores);
            }
        }
        Ok(())
    }

    fn live_rows(&self) -> usize {
        self.live.len() * self.settings.num_beams
    }

    fn live_row(&self, index: usize) -> Option<LiveRow<'_>> {
        let (place, beam) = (index / self.settings.num_beams, index % self.settings.num_beams);
        let row = *self.live.get(place)?;
        Some(LiveRow { row, index: beam, ids: &self.rows.get(row)?.running.get(beam)?.ids })
    }

    fn choose(&mut self, shared: &mut Shared, _: &mut dyn StepModel, out_of_time: bool) -> Result<(), GenerationError> {
        let beams = self.settings.num_beams;
        for (place, row) in self.live.iter().enumerate() {
            let Some(state) = self.rows.get_mut(*row) else { continue };
            let size = shared.vocab_size * beams;
            let best = match shared.options.do_sample {
                false => most_likely(shared, *row, place * size, state, &self.settings)?,
                true => sampled(shared, *row, place * size, state, &self.settings)?,
            };
            let Some(facts) = shared.rows.get(*row) else { continue };
            let full = state.length() + 1 >= facts.max_length || out_of_time;
            state.set_candidates(&best, shared.vocab_size, |token| full || shared.is_end(token));
        }
        Ok(())
    }

    fn candidates(&self) -> usize {
        self.live.len() * self.settings.candidates
    }

    fn candidate(&self, index: usize) -> Option<Candidate> {
        let (place, index) = (index / self.settings.candidates, index % self.settings.candidates);
        let row = *self.live.get(place)?;
        Some(Candidate { row, index, ids: self.rows.get(row)?.candidate_ids(index)? })
    }

    fn stop_candidate(&mut self, index: usize) {
        let (place, index) = (index / self.settings.candidates, index % self.settings.candidates);
        let row = self.live.get(place).and_then(|row| self.rows.get_mut(*row));
        if let Some(candidate) = row.and_then(|row| row.candidates.get_mut(index)) {
            candidate.stop = true;
        }
    }

    fn commit(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<StepReport, GenerationError> {
        let beams = self.settings.num_beams;
        let (mut moves, mut ended) = (Vec::new(), Vec::new());
        for row in &self.live {
            let (Some(state), Some(facts)) = (self.rows.get_mut(*row), shared.rows.get(*row)) else { continue };
            let parents = state.advance(row * beams, facts, &self.settings);
            if state.finished {
                ended.push(*row);
                continue;
            }
            // Before anything was fed to the other beams' slots, the first holds what all of them share.
            let parents = parents.into_iter().map(|parent| if self.steps == 0 { 0 } else { parent });
            let slots = parents.enumerate().map(|(beam, parent)| (row * beams + beam, row * beams + parent));
            moves.extend(slots.filter(|(to, from)| to != from));
        }
        self.steps += 1;
        if !moves.is_empty() && shared.options.use_cache {
            model.reorder(&moves)?;
        }
        let mut report = StepReport::default();
        for row in ended {
            self.end(row, model);
            let each = shared.options.num_return_sequences;
            report.finished.extend(row * each..(row + 1) * each);
        }
        report.done = self.done();
        Ok(report)
    }

    fn stop_row(&mut self, shared: &mut Shared, row: usize, model: &mut dyn StepModel) {
        let row = row / shared.options.num_return_sequences;
        if !self.live.contains(&row) {
            return;
        }
        if let (Some(state), Some(facts)) = (self.rows.get_mut(row), shared.rows.get(row)) {
            state.stop(facts, &self.settings);
        }
        self.end(row, model);
    }

    fn finish(self: Box<Self>, shared: Shared) -> GenerationResult {
        let each = shared.options.num_return_sequences;
        let settings = &self.settings;
        let rows = self.rows.into_iter().zip(&shared.rows);
        let kept: Vec<_> = rows.flat_map(|(row, facts)| row.results(each, facts, settings)).collect();
        // The reference takes the padding token for unset when its id is 0.
        let ends = &shared.options.eos_token_id;
        let fill = match shared.options.padding() {
            0 => ends.first().copied().unwrap_or(0),
            padding => padding,
        };
        collect(kept, fill, shared, self.steps)
    }
}

/// The continuations of the greatest accumulated log-probability, best first.
fn most_likely(
    shared: &mut Shared,
    row: usize,
    offset: usize,
    state: &BeamRow,
    settings: &Settings,
) -> Result<Vec<Ranked<f32>>, GenerationError> {
    let mut top = TopList::new(settings.candidates);
    for_beams(shared, row, offset, state, settings, |beam_offset, running, scores, _| {
        top.offer_row(scores, running, beam_offset);
    })?;
    Ok(top.into_best())
}

/// Continuations drawn without replacement by their accumulated probability, in the order drawn: those of the greatest
/// log-probability plus Gumbel noise (Vieira, "Gumbel-max trick and weighted reservoir sampling", 2014).
fn sampled(
    shared: &mut Shared,
    row: usize,
    offset: usize,
    state: &BeamRow,
    settings: &Settings,
) -> Result<Vec<Ranked<f32>>, GenerationError> {
    let stream = shared.stream(row, 0);
    let step = shared.rows.get(row).map_or(0, |facts| facts.step(state.ids()));
    let mut top = TopList::new(settings.candidates);
    let mut accumulated = Vec::new();
    for_beams(shared, row, offset, state, settings, |beam_offset, running, scores, support| {
        for token in support {
            let place = beam_offset + *token as usize;
            let score = scores.get(*token as usize).map_or(f32::NEG_INFINITY, |score| score + running);
            let noise = stream.gumbel(step, u32::try_from(place).unwrap_or(u32::MAX));
            top.offer(f64::from(score) + noise, place);
        }
        accumulated.extend(scores.iter().map(|score| score + running));
    })?;
    // With fewer possible tokens than candidates, impossible ones fill up.
    let impossible = accumulated.iter().enumerate().filter(|(_, score)| **score == f32::NEG_INFINITY);
    for (place, _) in impossible.take(settings.candidates) {
        top.offer(f64::NEG_INFINITY, place);
    }
    let score = |place: usize| accumulated.get(place).copied().unwrap_or(f32::NEG_INFINITY);
    Ok(top.into_best().into_iter().map(|Ranked { place, .. }| Ranked { place, score: score(place) }).collect())
}

/// Warps the scores of each beam of a row and shows them: the beam's first place, its score, the scores, the possible
/// tokens (only when sampling).
fn for_beams(
    shared: &mut Shared,
    row: usize,
    offset: usize,
    state: &BeamRow,
    settings: &Settings,
    mut show: impl FnMut(usize, f32, &[f32], &[u32]),
) -> Result<(), GenerationError> {
    let Shared { scores, pipeline, records, rows, vocab_size, options, .. } = shared;
    let size = *vocab_size * settings.num_beams;
    let (Some(scores), Some(facts)) = (scores.get_mut(offset..offset + size), rows.get(row)) else { return Ok(()) };
    for (beam, (hypothesis, scores)) in state.running.iter().zip(scores.chunks_mut(*vocab_size)).enumerate() {
        refuse_nan(scores, row)?;
        pipeline.warp(&facts.context(&hypothesis.ids, &[]), scores);
        records.write(Kind::Scores, row * settings.num_beams + beam, scores);
        let support = if options.do_sample { pipeline.scratch.support.of(scores) } else { &[] };
        show(beam * *vocab_size, hypothesis.score, scores, support);
    }
    Ok(())
}
