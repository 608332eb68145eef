//! The beams of one group of one row.

use super::super::hypothesis::Hypothesis;
use super::super::shared::RowFacts;
use super::kept::{Keeping, Kept};
use crate::choice::Ranked;

/// What the reference adds to a score to rule it out.
const RULED_OUT: f32 = -1.0e9;

/// A continuation of a beam.
#[derive(Debug, Clone, Copy)]
pub struct Continuation {
    parent: usize,
    token: u32,
    score: f32,
    /// An end token, which is not part of the hypothesis until the end.
    ends: bool,
    /// Stopped by the host.
    pub stop: bool,
}

#[derive(Debug)]
pub struct Group {
    pub running: Vec<Hypothesis>,
    pub kept: Kept,
    pub candidates: Vec<Continuation>,
    /// For each running beam, the beam of the group that it continued in this step.
    pub parents: Vec<usize>,
    pub done: bool,
    /// Whether its slots are free.
    pub released: bool,
}

impl Group {
    pub fn new(facts: &RowFacts, size: usize) -> Self {
        let start = |beam| Hypothesis {
            ids: facts.prefix.clone(),
            beam_indices: Vec::new(),
            score: if beam == 0 { 0.0 } else { RULED_OUT },
        };
        Self {
            running: (0..size).map(start).collect(),
            kept: Kept::default(),
            candidates: Vec::new(),
            parents: (0..size).collect(),
            done: false,
            released: false,
        }
    }

    pub fn length(&self) -> usize {
        self.running.first().map_or(0, |hypothesis| hypothesis.ids.len())
    }

    pub fn set_candidates(&mut self, best: &[Ranked<f32>], vocab_size: usize, ends: impl Fn(u32) -> bool) {
        self.candidates.clear();
        self.candidates.extend(best.iter().map(|ranked| {
            let token = u32::try_from(ranked.place % vocab_size).unwrap_or(0);
            let parent = ranked.place / vocab_size;
            Continuation { parent, token, score: ranked.score, ends: ends(token), stop: false }
        }));
    }

    pub fn candidate_ids(&self, index: usize) -> Option<Vec<u32>> {
        let candidate = self.candidates.get(index)?;
        let parent = self.running.get(candidate.parent)?;
        Some(parent.ids.iter().copied().chain([candidate.token]).collect())
    }

    /// Settles the step's continuations. `first_beam` is the group's first in the batch.
    pub fn advance(&mut self, first_beam: usize, facts: &RowFacts, keeping: &Keeping) {
        let candidates = std::mem::take(&mut self.candidates);
        let length = self.length() + 1;
        let mut next = Vec::with_capacity(keeping.size);
        self.parents.clear();
        for (rank, candidate) in candidates.iter().enumerate() {
            let Some(parent) = self.running.get(candidate.parent) else { continue };
            let mut hypothesis = parent.continued(candidate.token, first_beam + candidate.parent, candidate.score);
            if candidate.ends || candidate.stop {
                // The others are there only to go on with.
                if rank < keeping.size {
                    if candidate.ends {
                        hypothesis.ids.pop();
                    }
                    self.kept.add(hypothesis, length.saturating_sub(facts.prompt_length), keeping);
                }
            } else {
                next.push(hypothesis);
                self.parents.push(candidate.parent);
                if next.len() == keeping.size {
                    break;
                }
            }
        }
        let best = candidates.first().map_or(f32::NEG_INFINITY, |candidate| candidate.score);
        // Fewer than a group go on only if the host has stopped the others.
        self.done = next.len() < keeping.size || self.kept.complete(best, length, facts, keeping);
        self.running = next;
        self.candidates = candidates;
    }

    /// Takes the beams as they are for finished.
    pub fn stop(&mut self, facts: &RowFacts, keeping: &Keeping) {
        for hypothesis in std::mem::take(&mut self.running) {
            let length = hypothesis.ids.len().saturating_sub(facts.prompt_length).max(1);
            self.kept.add(hypothesis, length, keeping);
        }
        self.done = true;
    }
}
