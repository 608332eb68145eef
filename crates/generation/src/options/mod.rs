//! Generation options by the reference's names (`transformers` 5.18.0, `generation/configuration_utils.py`).

mod contradictions;
mod names;
mod parse;
mod reader;

pub use names::SUPPORTED as SUPPORTED_OPTIONS;
pub(crate) use reader::Reader;

/// When beam search may stop before `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// `true`: as soon as there are `num_beams` finished hypotheses.
    Yes,
    /// `false` (default): when it is unlikely, judged at the current length, that a better one will follow.
    #[default]
    No,
    /// `"never"`: only when no better one can follow.
    Never,
}

/// The reference's generation options, checked. Fields carry the reference's names and meanings; `None` is its null.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Tokens of the longest output, prefix included. Unset: 20 more than the prefix.
    pub max_length: Option<usize>,
    /// New tokens of the longest output; takes precedence over `max_length`.
    pub max_new_tokens: Option<usize>,
    /// Tokens before which no end token is chosen, prefix included. Default 0.
    pub min_length: usize,
    /// As `min_length`, without the prefix; takes precedence over it.
    pub min_new_tokens: Option<usize>,
    pub early_stopping: EarlyStopping,
    /// Seconds after which no further step is begun.
    pub max_time: Option<f64>,
    /// Texts at which a row stops; found by the host, which decodes.
    pub stop_strings: Vec<String>,
    pub do_sample: bool,
    /// Default 1: no beam search.
    pub num_beams: usize,
    /// Groups of diverse beam search. Default 1: none.
    pub num_beam_groups: usize,
    /// What a token costs that another group has just chosen. Default 0.
    pub diversity_penalty: f64,
    /// Weight of the degeneration penalty in contrastive search, with `top_k` candidates. Unset: no such search.
    pub penalty_alpha: Option<f64>,
    /// Default true.
    pub use_cache: bool,
    /// Default 1.
    pub temperature: f64,
    /// Default 50; 0 is off.
    pub top_k: usize,
    /// Default 1: off.
    pub top_p: f64,
    pub min_p: Option<f64>,
    pub top_h: Option<f64>,
    /// Default 1: off.
    pub typical_p: f64,
    /// Default 0: off.
    pub epsilon_cutoff: f64,
    /// Default 0: off.
    pub eta_cutoff: f64,
    /// Default 1: off.
    pub repetition_penalty: f64,
    /// Default 1: off.
    pub encoder_repetition_penalty: f64,
    /// Power of the length that divides a beam's score. Default 1.
    pub length_penalty: f64,
    /// Default 0: off.
    pub no_repeat_ngram_size: usize,
    /// Default 0: off.
    pub encoder_no_repeat_ngram_size: usize,
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    pub sequence_bias: Option<Vec<(Vec<u32>, f64)>>,
    pub renormalize_logits: bool,
    pub forced_bos_token_id: Option<u32>,
    pub forced_eos_token_id: Option<Vec<u32>>,
    pub remove_invalid_values: bool,
    /// New tokens after which, and the factor by which, the end tokens' scores grow at every step.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    pub suppress_tokens: Option<Vec<u32>>,
    pub begin_suppress_tokens: Option<Vec<u32>>,
    /// Default 1.
    pub num_return_sequences: usize,
    pub output_scores: bool,
    pub output_logits: bool,
    pub output_attentions: bool,
    pub output_hidden_states: bool,
    pub output_router_logits: bool,
    pub return_dict_in_generate: bool,
    /// Unset: the first end token, as in the reference.
    pub pad_token_id: Option<u32>,
    pub bos_token_id: Option<u32>,
    /// Empty: rows end at their greatest length only.
    pub eos_token_id: Vec<u32>,
    /// Unset: `bos_token_id`.
    pub decoder_start_token_id: Option<u32>,
    /// Unset: the host's choice.
    pub seed: Option<u64>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: None,
            early_stopping: EarlyStopping::No,
            max_time: None,
            stop_strings: Vec::new(),
            do_sample: false,
            num_beams: 1,
            num_beam_groups: 1,
            diversity_penalty: 0.0,
            penalty_alpha: None,
            use_cache: true,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            top_h: None,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            repetition_penalty: 1.0,
            encoder_repetition_penalty: 1.0,
            length_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: None,
            sequence_bias: None,
            renormalize_logits: false,
            forced_bos_token_id: None,
            forced_eos_token_id: None,
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: None,
            begin_suppress_tokens: None,
            num_return_sequences: 1,
            output_scores: false,
            output_logits: false,
            output_attentions: false,
            output_hidden_states: false,
            output_router_logits: false,
            return_dict_in_generate: false,
            pad_token_id: None,
            bos_token_id: None,
            eos_token_id: Vec::new(),
            decoder_start_token_id: None,
            seed: None,
        }
    }
}

/// How the next tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Greedy,
    Sample,
    Beam,
    BeamSample,
    GroupBeam,
    Contrastive,
}

impl GenerationOptions {
    /// Which strategy the options ask for, as the reference decides it (`get_generation_mode`).
    pub fn strategy(&self) -> Strategy {
        match (self.num_beams, self.do_sample) {
            (1, true) => Strategy::Sample,
            (1, false) if self.top_k > 1 && self.penalty_alpha.is_some_and(|alpha| alpha > 0.0) => {
                Strategy::Contrastive
            }
            (1, false) => Strategy::Greedy,
            _ if self.num_beam_groups > 1 => Strategy::GroupBeam,
            (_, true) => Strategy::BeamSample,
            (_, false) => Strategy::Beam,
        }
    }

    /// Slots that each row of the batch takes. Slot `row * slots_per_row() + i` is the row's `i`-th.
    pub fn slots_per_row(&self) -> usize {
        match self.strategy() {
            Strategy::Contrastive => self.top_k,
            _ => self.num_beams.max(self.num_return_sequences),
        }
    }

    /// The token that fills rows shorter than the longest: `pad_token_id`, or the first end token.
    pub fn padding(&self) -> u32 {
        self.pad_token_id.or(self.eos_token_id.first().copied()).unwrap_or(0)
    }

    /// The longest a row may become whose prefix has `prompt_length` tokens.
    pub fn length_limit(&self, prompt_length: usize) -> usize {
        const DEFAULT_NEW_TOKENS: usize = 20;
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => prompt_length.saturating_add(new),
            (None, Some(max_length)) => max_length,
            (None, None) => prompt_length.saturating_add(DEFAULT_NEW_TOKENS),
        }
    }
}
