//! The best finished hypotheses of a group (the reference's `BeamHypotheses`, 4.53).

use super::super::hypothesis::Hypothesis;
use super::super::shared::RowFacts;
use crate::options::{EarlyStopping, GenerationOptions};

/// The options that kept hypotheses need.
#[derive(Debug, Clone)]
pub struct Keeping {
    pub size: usize,
    early_stopping: EarlyStopping,
    length_penalty: f64,
}

impl Keeping {
    pub fn new(options: &GenerationOptions, size: usize) -> Self {
        Self { size, early_stopping: options.early_stopping, length_penalty: options.length_penalty }
    }

    fn score(&self, sum: f32, length: usize) -> f64 {
        f64::from(sum) / libm::pow(length as f64, self.length_penalty)
    }
}

/// A finished hypothesis, its score in full precision.
#[derive(Debug)]
pub struct Scored {
    pub score: f64,
    pub hypothesis: Hypothesis,
}

#[derive(Debug, Default)]
pub struct Kept {
    /// In the order in which they were added.
    pub hypotheses: Vec<Scored>,
}

impl Kept {
    fn worst(&self) -> f64 {
        self.hypotheses.iter().map(|scored| scored.score).fold(f64::INFINITY, f64::min)
    }

    /// Adds a hypothesis of `length` new tokens, whose score is yet the sum of log-probabilities, if it is good enough.
    pub fn add(&mut self, hypothesis: Hypothesis, length: usize, keeping: &Keeping) {
        let score = keeping.score(hypothesis.score, length);
        if self.hypotheses.len() < keeping.size {
            self.hypotheses.push(Scored { score, hypothesis });
        } else if score > self.worst() {
            self.hypotheses.push(Scored { score, hypothesis });
            let worst = self.worst();
            if let Some(place) = self.hypotheses.iter().position(|scored| scored.score == worst) {
                self.hypotheses.remove(place);
            }
        }
    }

    /// Whether no running hypothesis can become better than the worst kept one, `best` being the largest sum of
    /// log-probabilities of a continuation, and `length` its ids.
    pub fn complete(&self, best: f32, length: usize, facts: &RowFacts, keeping: &Keeping) -> bool {
        if self.hypotheses.len() < keeping.size {
            return false;
        }
        let longest = match keeping.early_stopping {
            EarlyStopping::Yes => return true,
            EarlyStopping::Never if keeping.length_penalty > 0.0 => facts.max_length,
            EarlyStopping::Never | EarlyStopping::No => length,
        };
        self.worst() >= keeping.score(best, longest.saturating_sub(facts.prompt_length))
    }
}
