//! The beams of one row.

use super::super::hypothesis::Hypothesis;
use super::super::shared::RowFacts;
use crate::choice::{Ranked, TopList};
use crate::options::{EarlyStopping, GenerationOptions};

/// What the reference adds to a score to rule it out.
const RULED_OUT: f32 = -1.0e9;

/// The options that beams need.
#[derive(Debug, Clone)]
pub struct Settings {
    pub num_beams: usize,
    /// Continuations considered for each row: enough that `num_beams` remain when as many end.
    pub candidates: usize,
    early_stopping: EarlyStopping,
    length_penalty: f64,
}

impl Settings {
    pub fn new(options: &GenerationOptions) -> Self {
        Self {
            num_beams: options.num_beams,
            candidates: (1 + options.eos_token_id.len()).max(2) * options.num_beams,
            early_stopping: options.early_stopping,
            length_penalty: options.length_penalty,
        }
    }

    /// What a sum of log-probabilities over `length` new tokens is divided by.
    fn divisor(&self, length: usize) -> f32 {
        libm::pow(length as f64, self.length_penalty) as f32
    }
}

/// A continuation of a beam.
#[derive(Debug, Clone, Copy)]
pub struct Continuation {
    parent: usize,
    token: u32,
    log_probability: f32,
    pub stop: bool,
}

#[derive(Debug)]
struct Kept {
    hypothesis: Hypothesis,
    finished: bool,
}

#[derive(Debug)]
pub struct BeamRow {
    /// The beams that go on, best first; all of one length.
    pub running: Vec<Hypothesis>,
    /// The best `num_beams` finished hypotheses, best first, after which come placeholders.
    kept: Vec<Kept>,
    pub candidates: Vec<Continuation>,
    /// Whether nothing is left to do for the row.
    pub finished: bool,
}

impl BeamRow {
    pub fn new(facts: &RowFacts, settings: &Settings) -> Self {
        let start = |score| Hypothesis { ids: facts.prefix.clone(), beam_indices: Vec::new(), score };
        // Only the first beam counts at first, or all would choose the same tokens.
        let running = (0..settings.num_beams).map(|beam| start(if beam == 0 { 0.0 } else { RULED_OUT }));
        Self {
            running: running.collect(),
            kept: (0..settings.num_beams).map(|_| Kept { hypothesis: start(RULED_OUT), finished: false }).collect(),
            candidates: Vec::new(),
            finished: false,
        }
    }

    pub fn ids(&self) -> &[u32] {
        self.running.first().map_or(&[], |hypothesis| &hypothesis.ids)
    }

    /// The length of the running beams.
    pub fn length(&self) -> usize {
        self.ids().len()
    }

    /// Sets the step's continuations, best (or first drawn) first, from places in `[num_beams, vocab_size]`.
    pub fn set_candidates(&mut self, best: &[Ranked<f32>], vocab_size: usize, stops: impl Fn(u32) -> bool) {
        self.candidates.clear();
        self.candidates.extend(best.iter().map(|ranked| {
            let token = u32::try_from(ranked.place % vocab_size).unwrap_or(0);
            Continuation { parent: ranked.place / vocab_size, token, log_probability: ranked.score, stop: stops(token) }
        }));
    }

    pub fn candidate_ids(&self, index: usize) -> Option<Vec<u32>> {
        let candidate = self.candidates.get(index)?;
        let parent = self.running.get(candidate.parent)?;
        Some(parent.ids.iter().copied().chain([candidate.token]).collect())
    }

    /// Settles the step's continuations. `first_beam` is the row's first in the batch. The parents of the beams that
    /// go on.
    pub fn advance(&mut self, first_beam: usize, facts: &RowFacts, settings: &Settings) -> Vec<usize> {
        let candidates = std::mem::take(&mut self.candidates);
        self.keep_finished(&candidates, first_beam, facts, settings);
        let mut next = TopList::new(settings.num_beams);
        for (place, candidate) in candidates.iter().enumerate() {
            let penalty = if candidate.stop { RULED_OUT } else { 0.0 };
            next.offer(candidate.log_probability + penalty, place);
        }
        let next = next.into_best();
        let parents: Vec<usize> =
            next.iter().filter_map(|ranked| candidates.get(ranked.place)).map(|candidate| candidate.parent).collect();
        let running =
            next.iter().filter_map(|ranked| self.continuation(candidates.get(ranked.place)?, first_beam, ranked.score));
        self.running = running.collect();
        self.finished = !self.can_improve(facts, settings)
            || (settings.early_stopping == EarlyStopping::Yes && self.kept.iter().all(|kept| kept.finished))
            || candidates.iter().all(|candidate| candidate.stop);
        self.candidates = candidates;
        parents
    }

    /// Takes the beams as they are for finished.
    pub fn stop(&mut self, facts: &RowFacts, settings: &Settings) {
        let length = self.length().saturating_sub(facts.prompt_length).max(1);
        let divisor = settings.divisor(length);
        let mut hypotheses = std::mem::take(&mut self.running);
        for hypothesis in &mut hypotheses {
            hypothesis.score /= divisor;
        }
        self.merge(hypotheses.into_iter().map(|hypothesis| Kept { hypothesis, finished: true }).collect(), settings);
        self.finished = true;
    }

    /// The best `count` hypotheses. A row that has not finished gives its beams as they are.
    pub fn results(mut self, count: usize, facts: &RowFacts, settings: &Settings) -> Vec<Hypothesis> {
        if !self.finished {
            self.stop(facts, settings);
        }
        self.kept.truncate(count);
        self.kept.into_iter().map(|kept| kept.hypothesis).collect()
    }

    fn continuation(&self, candidate: &Continuation, first_beam: usize, score: f32) -> Option<Hypothesis> {
        let parent = self.running.get(candidate.parent)?;
        Some(parent.continued(candidate.token, first_beam + candidate.parent, score))
    }

    /// Keeps continuations that end, if they are among the first `num_beams` and better than what is kept.
    fn keep_finished(&mut self, candidates: &[Continuation], first_beam: usize, facts: &RowFacts, settings: &Settings) {
        let divisor = settings.divisor((self.length() + 1).saturating_sub(facts.prompt_length));
        let ended = candidates.iter().take(settings.num_beams).filter(|candidate| candidate.stop);
        let ended: Vec<Kept> = ended
            .filter_map(|candidate| {
                let hypothesis = self.continuation(candidate, first_beam, candidate.log_probability / divisor)?;
                Some(Kept { hypothesis, finished: true })
            })
            .collect();
        if !ended.is_empty() {
            self.merge(ended, settings);
        }
    }

    fn merge(&mut self, ended: Vec<Kept>, settings: &Settings) {
        self.kept.extend(ended);
        // Stable: of equals, what was kept before stays before, but a placeholder goes last.
        self.kept.sort_by(|a, b| b.hypothesis.score.total_cmp(&a.hypothesis.score).then(b.finished.cmp(&a.finished)));
        self.kept.truncate(settings.num_beams);
    }

    /// Whether a running beam may still become better than the worst kept one.
    fn can_improve(&self, facts: &RowFacts, settings: &Settings) -> bool {
        let never = settings.early_stopping == EarlyStopping::Never && settings.length_penalty > 0.0;
        let length = if never { facts.max_length } else { self.length() };
        let divisor = settings.divisor(length.saturating_sub(facts.prompt_length));
        let Some(best) = self.running.first().map(|hypothesis| hypothesis.score / divisor) else { return false };
        let worst = self.kept.iter().map(|kept| kept.hypothesis.score).fold(f32::INFINITY, f32::min);
        self.kept.iter().any(|kept| best > if kept.finished { worst } else { RULED_OUT })
    }
}
