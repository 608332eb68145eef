//! Diverse beam search: groups of beams that choose one after the other and avoid what earlier groups have just chosen
//! (Vijayakumar et al., 2016), as `transformers` 4.53 did it, the last version to hold it.
//!
//! A round of the session covers one group, so that the host sees the scores that a group chooses from. A group that is
//! complete no longer costs anything; for the others' penalty it counts as choosing padding, as in the reference.
//! `beam_indices` name the beams that were continued; the reference mixed up those of different groups.

mod group;
mod kept;

use self::group::Group;
use self::kept::Keeping;
use super::hypothesis::{collect, Hypothesis};
use super::records::Kind;
use super::shared::{refuse_nan, RowFacts, Shared};
use super::Decoder;
use crate::choice::TopList;
use crate::error::GenerationError;
use crate::math;
use crate::model::StepModel;
use crate::result::{Candidate, GenerationResult, LiveRow, StepReport};

struct Row {
    groups: Vec<Group>,
    /// What each beam of the groups so far has chosen in this step.
    chosen: Vec<u32>,
    finished: bool,
}

pub struct GroupBeamSearch {
    keeping: Keeping,
    num_beams: usize,
    candidates: usize,
    rows: Vec<Row>,
    /// The group whose round it is.
    group: usize,
    /// Rows whose group takes part in the round, ascending.
    live: Vec<usize>,
    /// The step's logits, `[rows, num_beams, vocabulary]`; those of complete groups mean nothing.
    logits: Vec<f32>,
    out_of_time: bool,
    steps: usize,
}

impl GroupBeamSearch {
    pub fn new(shared: &Shared) -> Self {
        let options = &shared.options;
        let size = options.num_beams / options.num_beam_groups.max(1);
        let row = |facts: &RowFacts| Row {
            groups: (0..options.num_beam_groups).map(|_| Group::new(facts, size)).collect(),
            chosen: Vec::new(),
            finished: false,
        };
        Self {
            keeping: Keeping::new(options, size),
            num_beams: options.num_beams,
            candidates: (1 + options.eos_token_id.len()).max(2) * size,
            rows: shared.rows.iter().map(row).collect(),
            group: 0,
            live: Vec::new(),
            logits: Vec::new(),
            out_of_time: false,
            steps: 0,
        }
    }

    fn slot(&self, row: usize, group: usize, beam: usize) -> usize {
        row * self.num_beams + group * self.keeping.size + beam
    }

    /// The first beam of each row, or all beams of incomplete groups, each with its slot.
    fn hypotheses(&self, first: bool) -> Vec<(usize, &[u32])> {
        let mut list = Vec::new();
        for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.finished) {
            for (number, group) in row.groups.iter().enumerate().filter(|(_, group)| !group.done) {
                let beams = group.running.iter().enumerate();
                list.extend(beams.map(|(beam, h)| (self.slot(index, number, beam), h.ids.as_slice())));
                if first {
                    list.truncate(index + 1);
                }
            }
        }
        list
    }

    /// Begins a step: feeds the model and keeps its logits by slot.
    fn feed(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        let first = self.steps == 0;
        let hypotheses = self.hypotheses(first);
        shared.feed(model, &hypotheses, first)?;
        let slots: Vec<usize> = hypotheses.iter().map(|(slot, _)| *slot).collect();
        let (slots_total, vocab_size) = (self.rows.len() * self.num_beams, shared.vocab_size);
        self.logits.resize(slots_total * vocab_size, 0.0);
        shared.records.begin(slots_total, vocab_size)?;
        // At first all beams of a row are what its first slot holds.
        let copies = if first { self.num_beams } else { 1 };
        for (slot, logits) in slots.iter().zip(shared.scores.chunks(vocab_size)) {
            for slot in *slot..slot + copies {
                shared.records.write(Kind::Logits, slot, logits);
                let start = slot * vocab_size;
                if let Some(place) = self.logits.get_mut(start..start + vocab_size) {
                    place.copy_from_slice(logits);
                }
            }
        }
        Ok(())
    }

    /// Ends a step: reorders the model's slots, frees those of complete groups and ends rows.
    fn end_step(&mut self, shared: &Shared, model: &mut dyn StepModel) -> Result<Vec<usize>, GenerationError> {
        let first = self.steps == 0;
        let (mut moves, mut free, mut finished) = (Vec::new(), Vec::new(), Vec::new());
        let size = self.keeping.size;
        for (index, (row, facts)) in
            self.rows.iter_mut().zip(&shared.rows).enumerate().filter(|(_, (r, _))| !r.finished)
        {
            let length = row.groups.iter().map(Group::length).max().unwrap_or(0);
            row.finished = row.groups.iter().all(|group| group.done) || length >= facts.max_length || self.out_of_time;
            for (number, group) in row.groups.iter_mut().enumerate() {
                let slot = index * self.num_beams + number * size;
                if group.released {
                    continue;
                }
                if group.done || row.finished {
                    free.extend(slot..slot + size);
                    group.released = true;
                    if !group.done {
                        group.stop(facts, &self.keeping);
                    }
                    continue;
                }
                let source = |parent: usize| if first { index * self.num_beams } else { slot + parent };
                let pairs = group.parents.iter().enumerate().map(|(beam, parent)| (slot + beam, source(*parent)));
                moves.extend(pairs.filter(|(to, from)| to != from));
            }
            if row.finished {
                finished.push(index);
            }
        }
        if !moves.is_empty() && shared.options.use_cache {
            model.reorder(&moves)?;
        }
        free.into_iter().for_each(|slot| model.release(slot));
        self.steps += 1;
        Ok(finished)
    }
}

impl Decoder for GroupBeamSearch {
    fn done(&self) -> bool {
        self.rows.iter().all(|row| row.finished)
    }

    fn within_step(&self) -> bool {
        self.group > 0
    }

    fn advance(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError> {
        if self.group == 0 {
            self.feed(shared, model)?;
            self.rows.iter_mut().for_each(|row| row.chosen.clear());
        }
        let takes_part = |row: &Row| !row.finished && row.groups.get(self.group).is_some_and(|group| !group.done);
        self.live = self.rows.iter().enumerate().filter(|(_, row)| takes_part(row)).map(|(index, _)| index).collect();
        shared.scores.clear();
        for row in &self.live {
            let start = self.slot(*row, self.group, 0) * shared.vocab_size;
            let logits = self.logits.get(start..start + self.keeping.size * shared.vocab_size);
            shared.scores.extend_from_slice(logits.unwrap_or(&[]));
        }
        let Shared { scores, pipeline, rows, vocab_size, .. } = shared;
        let mut scores = scores.chunks_mut(*vocab_size);
        for row in &self.live {
            let (Some(state), Some(facts)) = (self.rows.get(*row), rows.get(*row)) else { continue };
            let Some(group) = state.groups.get(self.group) else { continue };
            for (hypothesis, scores) in group.running.iter().zip(&mut scores) {
                math::log_softmax_in_place(scores);
                pipeline.process(&facts.context(&hypothesis.ids, &state.chosen), scores);
            }
        }
        Ok(())
    }

    fn live_rows(&self) -> usize {
        self.live.len() * self.keeping.size
    }

    fn live_row(&self, index: usize) -> Option<LiveRow<'_>> {
        let (place, beam) = (index / self.keeping.size, index % self.keeping.size);
        let row = *self.live.get(place)?;
        let ids = &self.rows.get(row)?.groups.get(self.group)?.running.get(beam)?.ids;
        Some(LiveRow { row, index: self.group * self.keeping.size + beam, ids })
    }

    fn choose(&mut self, shared: &mut Shared, _: &mut dyn StepModel, out_of_time: bool) -> Result<(), GenerationError> {
        self.out_of_time = out_of_time;
        let Shared { scores, pipeline, records, rows, vocab_size, options, .. } = shared;
        let mut scores = scores.chunks_mut(*vocab_size);
        let first_beam = self.group * self.keeping.size;
        for row in &self.live {
            let (Some(state), Some(facts)) = (self.rows.get_mut(*row), rows.get(*row)) else { continue };
            let Some(group) = state.groups.get_mut(self.group) else { continue };
            let mut top = TopList::new(self.candidates);
            for (beam, (hypothesis, scores)) in group.running.iter().zip(&mut scores).enumerate() {
                refuse_nan(scores, *row)?;
                pipeline.warp(&facts.context(&hypothesis.ids, &state.chosen), scores);
                records.write(Kind::Scores, row * self.num_beams + first_beam + beam, scores);
                top.offer_row(scores, hypothesis.score, beam * *vocab_size);
            }
            group.set_candidates(&top.into_best(), *vocab_size, |token| options.eos_token_id.contains(&token));
        }
        Ok(())
    }

    fn candidates(&self) -> usize {
        self.live.len() * self.candidates
    }

    fn candidate(&self, index: usize) -> Option<Candidate> {
        let (place, index) = (index / self.candidates, index % self.candidates);
        let row = *self.live.get(place)?;
        Some(Candidate { row, index, ids: self.rows.get(row)?.groups.get(self.group)?.candidate_ids(index)? })
    }

    fn stop_candidate(&mut self, index: usize) {
        let (place, index) = (index / self.candidates, index % self.candidates);
        let row = self.live.get(place).and_then(|row| self.rows.get_mut(*row));
        let group = row.and_then(|row| row.groups.get_mut(self.group));
        if let Some(candidate) = group.and_then(|group| group.candidates.get_mut(index)) {
            candidate.stop = true;
        }
    }

    fn commit(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<StepReport, GenerationError> {
        let padding = shared.options.padding();
        let first = self.group * self.keeping.size;
        for (index, (row, facts)) in self.rows.iter_mut().zip(&shared.rows).enumerate() {
            let Some(group) = row.groups.get_mut(self.group).filter(|_| !row.finished) else { continue };
            let took_part = !group.done;
            if took_part {
                group.advance(index * self.num_beams + first, facts, &self.keeping);
            }
            let last = |hypothesis: &Hypothesis| hypothesis.ids.last().copied().unwrap_or(padding);
            row.chosen.extend(group.running.iter().filter(|_| took_part).map(last));
            row.chosen.resize(first + self.keeping.size, padding);
        }
        self.group += 1;
        let mut report = StepReport::default();
        if self.group == shared.options.num_beam_groups {
            self.group = 0;
            let each = shared.options.num_return_sequences;
            report.finished =
                self.end_step(shared, model)?.iter().flat_map(|row| row * each..(row + 1) * each).collect();
        }
        report.done = self.done();
        Ok(report)
    }

    fn stop_row(&mut self, shared: &mut Shared, row: usize, model: &mut dyn StepModel) {
        let index = row / shared.options.num_return_sequences;
        let Some(row) = self.rows.get_mut(index).filter(|row| !row.finished && self.group == 0) else { return };
        let Some(facts) = shared.rows.get(index) else { return };
        for (number, group) in row.groups.iter_mut().enumerate().filter(|(_, group)| !group.done) {
            group.stop(facts, &self.keeping);
            let slot = index * self.num_beams + number * self.keeping.size;
            (slot..slot + self.keeping.size).for_each(|slot| model.release(slot));
        }
        row.finished = true;
    }

    fn finish(self: Box<Self>, shared: Shared) -> GenerationResult {
        let each = shared.options.num_return_sequences;
        let end = shared.options.eos_token_id.first();
        let mut kept = Vec::new();
        for (mut row, facts) in self.rows.into_iter().zip(&shared.rows) {
            for group in row.groups.iter_mut().filter(|group| !group.done) {
                group.stop(facts, &self.keeping);
            }
            let mut scored: Vec<_> = row.groups.into_iter().flat_map(|group| group.kept.hypotheses).collect();
            // Best first; of equals the later, as the reference takes them from the end.
            scored.reverse();
            scored.sort_by(|a, b| b.score.total_cmp(&a.score));
            kept.extend(scored.into_iter().take(each).map(|scored| {
                let mut hypothesis = scored.hypothesis;
                hypothesis.score = scored.score as f32;
                // Whatever ended it, the first end token stands at the end, if there is room.
                hypothesis.ids.extend(end.filter(|_| hypothesis.ids.len() < facts.max_length));
                hypothesis
            }));
        }
        let fill = shared.options.padding();
        collect(kept, fill, shared, self.steps)
    }
}
