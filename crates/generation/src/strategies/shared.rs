//! What every strategy works with.

use super::records::Records;
use crate::error::{GenerationError, INTERNAL, INVALID_INPUT};
use crate::math;
use crate::model::{StepInput, StepModel, TokenRule};
use crate::options::GenerationOptions;
use crate::processors::{RowContext, ScorePipeline};
use crate::random::RandomStream;

/// What does not change about a row of the batch.
#[derive(Debug)]
pub struct RowFacts {
    /// The decoder's ids before the first new one.
    pub prefix: Vec<u32>,
    pub prompt_length: usize,
    pub max_length: usize,
    pub begin_index: usize,
    pub encoder_ids: Vec<u32>,
    /// Tells rows apart by what they hold, not by where they stand.
    pub content: u64,
}

impl RowFacts {
    pub fn context<'a>(&'a self, ids: &'a [u32], previous_group_tokens: &'a [u32]) -> RowContext<'a> {
        RowContext {
            ids,
            prompt_length: self.prompt_length,
            max_length: self.max_length,
            encoder_ids: &self.encoder_ids,
            begin_index: self.begin_index,
            previous_group_tokens,
        }
    }

    /// How many tokens follow the prefix in `ids`: the number of the step that chooses the next.
    pub fn step(&self, ids: &[u32]) -> u32 {
        u32::try_from(ids.len().saturating_sub(self.prompt_length)).unwrap_or(u32::MAX)
    }
}

/// A session's state besides its strategy's own.
pub struct Shared {
    pub options: GenerationOptions,
    pub vocab_size: usize,
    pub rows: Vec<RowFacts>,
    pub seed: u64,
    pub pipeline: ScorePipeline,
    pub records: Records,
    /// Scores of the live rows, `[live rows, vocab_size]` row-major.
    pub scores: Vec<f32>,
    /// Whether nobody looks at the scores of the step that begins: the model may choose by itself.
    pub unobserved: bool,
}

impl Shared {
    /// Feeds hypotheses, given as slot and all of their ids, and leaves the logits in `scores`.
    ///
    /// At `first` their caches are empty and all ids are fed; afterwards the last one, or without a cache all again.
    pub fn feed(
        &mut self,
        model: &mut dyn StepModel,
        hypotheses: &[(usize, &[u32])],
        first: bool,
    ) -> Result<(), GenerationError> {
        let whole = first || !self.options.use_cache;
        if whole && !first {
            for (slot, _) in hypotheses {
                model.reset(*slot)?;
            }
        }
        model.step(&inputs(hypotheses, whole), &mut self.scores)?;
        self.check_logits(hypotheses.len())
    }

    /// What the model may choose by at this step, if at all.
    pub fn rule(&self, model: &dyn StepModel) -> Option<TokenRule> {
        let alone = self.unobserved && self.options.use_cache && self.records.is_empty() && model.chooses();
        self.pipeline.rule().filter(|_| alone)
    }

    /// As [`feed`](Self::feed) after the first time, and lets the model choose by `rule`. `None`: the logits are in `scores`.
    pub fn feed_and_choose(
        &mut self,
        model: &mut dyn StepModel,
        hypotheses: &[(usize, &[u32])],
        rule: &TokenRule,
        uniforms: &[f64],
    ) -> Result<Option<Vec<u32>>, GenerationError> {
        let uniforms = rule.do_sample.then_some(uniforms);
        let Some(tokens) = model.step_and_choose(&inputs(hypotheses, false), rule, uniforms, &mut self.scores)? else {
            self.check_logits(hypotheses.len())?;
            return Ok(None);
        };
        self.scores.clear();
        let known = |token: &u32| usize::try_from(*token).is_ok_and(|token| token < self.vocab_size);
        if tokens.len() != hypotheses.len() || !tokens.iter().all(known) {
            let message = format!("the model chose {tokens:?} for {} rows of {}", hypotheses.len(), self.vocab_size);
            return Err(GenerationError::new(INTERNAL, message));
        }
        Ok(Some(tokens))
    }

    /// Refuses logits of another size than was agreed.
    pub fn check_logits(&self, rows: usize) -> Result<(), GenerationError> {
        let expected = rows.checked_mul(self.vocab_size);
        if expected != Some(self.scores.len()) {
            return Err(GenerationError::new(
                INTERNAL,
                format!("the model gave {} logits for {rows} rows of {}", self.scores.len(), self.vocab_size),
            ));
        }
        Ok(())
    }

    /// Repeats each row of scores `times` times in place.
    pub fn repeat_scores(&mut self, times: usize) {
        if times > 1 {
            let once = std::mem::take(&mut self.scores);
            self.scores.reserve_exact(once.len().saturating_mul(times));
            for row in once.chunks(self.vocab_size) {
                for _ in 0..times {
                    self.scores.extend_from_slice(row);
                }
            }
        }
    }

    /// Whether a token is an end token.
    pub fn is_end(&self, token: u32) -> bool {
        self.options.eos_token_id.contains(&token)
    }

    pub fn stream(&self, row: usize, sequence: usize) -> RandomStream {
        RandomStream::new(self.seed, self.rows.get(row).map_or(0, |facts| facts.content), sequence)
    }
}

/// What is fed of hypotheses: all of their ids, or the last.
fn inputs<'a>(hypotheses: &[(usize, &'a [u32])], whole: bool) -> Vec<StepInput<'a>> {
    hypotheses
        .iter()
        .map(|(slot, ids)| {
            let last = ids.get(ids.len().saturating_sub(1)..).unwrap_or(ids);
            StepInput { slot: *slot, tokens: if whole { ids } else { last } }
        })
        .collect()
}

/// Refuses a row of scores with NaN in it.
pub fn refuse_nan(scores: &[f32], row: usize) -> Result<(), GenerationError> {
    match math::first_nan(scores) {
        None => Ok(()),
        Some(token) => Err(GenerationError::new(
            INVALID_INPUT,
            format!(
                "the score of token {token} in row {row} is NaN: the weights or a logits_processor are at fault; \
                 remove_invalid_values: true replaces what the model gives"
            ),
        )),
    }
}
