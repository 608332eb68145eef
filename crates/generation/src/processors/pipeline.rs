//! Which processors the options ask for, in the reference's order.

use super::bad_words::bad_words;
use super::begin_suppress_tokens::BeginSuppressTokens;
use super::encoder_no_repeat_ngram::EncoderNoRepeatNgram;
use super::encoder_repetition_penalty::EncoderRepetitionPenalty;
use super::epsilon_cutoff::EpsilonCutoff;
use super::eta_cutoff::EtaCutoff;
use super::exponential_decay::ExponentialDecay;
use super::forced_bos::ForcedBos;
use super::forced_eos::ForcedEos;
use super::hamming_diversity::HammingDiversity;
use super::min_length::{MinLength, MinNewTokens};
use super::min_p::MinP;
use super::no_repeat_ngram::NoRepeatNgram;
use super::normalization::Normalization;
use super::remove_invalid::RemoveInvalid;
use super::repetition_penalty::RepetitionPenalty;
use super::sequence_bias::SequenceBias;
use super::suppress_tokens::SuppressTokens;
use super::temperature::Temperature;
use super::top_h::TopH;
use super::top_k::TopK;
use super::top_p::TopP;
use super::typical_p::TypicalP;
use super::{RowContext, ScoreProcessor, Scratch};
use crate::model::TokenRule;
use crate::options::GenerationOptions;

/// The processors and warpers of one generation, and their buffers.
#[derive(Debug, Default)]
pub struct ScorePipeline {
    processors: Vec<Box<dyn ScoreProcessor>>,
    warpers: Vec<Box<dyn ScoreProcessor>>,
    pub(crate) scratch: Scratch,
    rule: Option<TokenRule>,
}

impl ScorePipeline {
    pub fn new(options: &GenerationOptions) -> Self {
        let (processors, warpers) = (processors(options), warpers(options));
        let rule = rule(options).filter(|(_, count)| processors.is_empty() && warpers.len() == *count);
        Self { processors, warpers, scratch: Scratch::default(), rule: rule.map(|(rule, _)| rule) }
    }

    /// All that the pipeline does, where it is no more than this.
    pub fn rule(&self) -> Option<TokenRule> {
        self.rule
    }

    /// The reference's logits processors, before those of the host.
    pub fn process(&mut self, row: &RowContext<'_>, scores: &mut [f32]) {
        self.scratch.support.forget();
        for processor in &self.processors {
            processor.apply(row, scores, &mut self.scratch);
        }
    }

    /// The warpers and the final normalisation, after the processors of the host. Afterwards the scratch's support is
    /// that of `scores`.
    pub fn warp(&mut self, row: &RowContext<'_>, scores: &mut [f32]) {
        self.scratch.support.forget();
        for warper in &self.warpers {
            warper.apply(row, scores, &mut self.scratch);
        }
    }
}

/// What a model could choose by, and how many warpers that stands for.
fn rule(options: &GenerationOptions) -> Option<(TokenRule, usize)> {
    if options.num_beams > 1 {
        return None;
    }
    if !options.do_sample {
        return Some((TokenRule { do_sample: false, temperature: 1.0, top_k: 0, top_p: 1.0 }, 0));
    }
    let temperature = options.temperature as f32;
    let rule = TokenRule { do_sample: true, temperature, top_k: options.top_k, top_p: options.top_p.min(1.0) };
    let warpers = [options.temperature != 1.0, options.top_k > 0, options.top_p < 1.0];
    Some((rule, warpers.into_iter().filter(|used| *used).count()))
}

fn processors(options: &GenerationOptions) -> Vec<Box<dyn ScoreProcessor>> {
    let mut list: Vec<Box<dyn ScoreProcessor>> = Vec::new();
    let eos = || options.eos_token_id.clone();
    if let Some(biases) = &options.sequence_bias {
        list.push(Box::new(SequenceBias::new(biases.iter().map(|(ids, bias)| (ids.as_slice(), *bias as f32)))));
    }
    if options.diversity_penalty > 0.0 {
        list.push(Box::new(HammingDiversity(options.diversity_penalty as f32)));
    }
    if options.encoder_repetition_penalty != 1.0 {
        list.push(Box::new(EncoderRepetitionPenalty::new(options.encoder_repetition_penalty)));
    }
    if options.repetition_penalty != 1.0 {
        list.push(Box::new(RepetitionPenalty(options.repetition_penalty as f32)));
    }
    if options.no_repeat_ngram_size > 0 {
        list.push(Box::new(NoRepeatNgram(options.no_repeat_ngram_size)));
    }
    if options.encoder_no_repeat_ngram_size > 0 {
        list.push(Box::new(EncoderNoRepeatNgram(options.encoder_no_repeat_ngram_size)));
    }
    if let Some(words) = &options.bad_words_ids {
        list.push(Box::new(bad_words(words, &options.eos_token_id)));
    }
    if !options.eos_token_id.is_empty() {
        match options.min_new_tokens {
            Some(count) => list.push(Box::new(MinNewTokens { count, eos_token_id: eos() })),
            None if options.min_length > 0 => {
                list.push(Box::new(MinLength { length: options.min_length, eos_token_id: eos() }));
            }
            None => {}
        }
    }
    if let Some(token) = options.forced_bos_token_id {
        list.push(Box::new(ForcedBos(token)));
    }
    if let Some(tokens) = &options.forced_eos_token_id {
        list.push(Box::new(ForcedEos(tokens.clone())));
    }
    if options.remove_invalid_values {
        list.push(Box::new(RemoveInvalid));
    }
    if let Some((start, factor)) = options.exponential_decay_length_penalty {
        list.push(Box::new(ExponentialDecay::new(start, factor, &options.eos_token_id)));
    }
    if let Some(tokens) = &options.suppress_tokens {
        list.push(Box::new(SuppressTokens(tokens.clone())));
    }
    if let Some(tokens) = &options.begin_suppress_tokens {
        list.push(Box::new(BeginSuppressTokens(tokens.clone())));
    }
    list
}

fn warpers(options: &GenerationOptions) -> Vec<Box<dyn ScoreProcessor>> {
    let mut list: Vec<Box<dyn ScoreProcessor>> = Vec::new();
    // Beams need a token besides the end tokens, to go on with.
    let min_tokens_to_keep = match (options.num_beams > 1, options.eos_token_id.len()) {
        (false, _) => 1,
        (true, 0) => 2,
        (true, ends) => ends + 1,
    };
    if options.do_sample {
        if options.temperature != 1.0 {
            list.push(Box::new(Temperature(options.temperature as f32)));
        }
        if let Some(h) = options.top_h {
            list.push(Box::new(TopH { h }));
        }
        if options.top_k > 0 {
            list.push(Box::new(TopK { k: options.top_k.max(min_tokens_to_keep) }));
        }
        if options.top_p < 1.0 {
            list.push(Box::new(TopP { p: options.top_p, min_tokens_to_keep }));
        }
        if let Some(p) = options.min_p {
            list.push(Box::new(MinP { p: p as f32, min_tokens_to_keep }));
        }
        if options.typical_p < 1.0 {
            list.push(Box::new(TypicalP { mass: options.typical_p, min_tokens_to_keep }));
        }
        if options.epsilon_cutoff > 0.0 {
            list.push(Box::new(EpsilonCutoff { epsilon: options.epsilon_cutoff, min_tokens_to_keep }));
        }
        if options.eta_cutoff > 0.0 {
            list.push(Box::new(EtaCutoff { epsilon: options.eta_cutoff, min_tokens_to_keep }));
        }
    }
    if options.renormalize_logits {
        list.push(Box::new(Normalization));
    }
    list
}
