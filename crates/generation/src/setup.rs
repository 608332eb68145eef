//! From options and rows to a session's shared state, with everything checked that needs both.

use crate::error::{GenerationError, INVALID_INPUT, INVALID_OPTION};
use crate::options::{GenerationOptions, Strategy};
use crate::processors::ScorePipeline;
use crate::random::content_of;
use crate::strategies::{Records, RowFacts, Shared};

/// The most bytes that one step's scores may take.
const SCORE_BYTES: usize = 2 << 30;

/// What a row begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowInput {
    /// The encoder's ids as the model gets them, padding included; empty if it gets embeddings.
    pub encoder_ids: Vec<u32>,
    /// `decoder_input_ids`. Empty, or beginning with another token: `decoder_start_token_id` is put before it.
    pub decoder_ids: Vec<u32>,
}

pub fn prepare(
    options: GenerationOptions,
    vocab_size: usize,
    rows: Vec<RowInput>,
    seed: u64,
) -> Result<Shared, GenerationError> {
    if rows.is_empty() || vocab_size == 0 {
        return Err(GenerationError::new(INVALID_INPUT, "there are no rows to generate for"));
    }
    check_size(&options, vocab_size, rows.len())?;
    let facts = rows
        .into_iter()
        .enumerate()
        .map(|(index, row)| facts(&options, vocab_size, index, row))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Shared {
        pipeline: ScorePipeline::new(&options),
        records: Records::new(&options),
        seed: options.seed.unwrap_or(seed),
        options,
        vocab_size,
        rows: facts,
        scores: Vec::new(),
        unobserved: false,
    })
}

/// Refuses searches that cannot be done or whose scores alone would not fit into memory.
fn check_size(options: &GenerationOptions, vocab_size: usize, rows: usize) -> Result<(), GenerationError> {
    let slots = options.slots_per_row();
    let name = match options.strategy() {
        Strategy::Contrastive => "top_k",
        _ if options.num_beams >= options.num_return_sequences => "num_beams",
        _ => "num_return_sequences",
    };
    if options.strategy() == Strategy::Contrastive && slots > vocab_size {
        return Err(GenerationError::option(
            INVALID_OPTION,
            name,
            format!("top_k is {slots}, expected at most the vocabulary's {vocab_size} for contrastive search"),
        ));
    }
    let ends = options.eos_token_id.len();
    if options.num_beams > 1 && (1 + ends).max(2) > vocab_size {
        return Err(GenerationError::option(
            INVALID_OPTION,
            "eos_token_id",
            format!("eos_token_id has {ends} tokens, too many for beams over a vocabulary of {vocab_size}"),
        ));
    }
    let bytes = rows
        .checked_mul(slots)
        .filter(|slots| u32::try_from(slots.saturating_mul(vocab_size)).is_ok())
        .and_then(|slots| slots.checked_mul(vocab_size)?.checked_mul(size_of::<f32>()));
    if bytes.is_none_or(|bytes| bytes > SCORE_BYTES) {
        return Err(GenerationError::option(
            INVALID_OPTION,
            name,
            format!(
                "{name} is {slots}: one step's scores ({rows} rows, {vocab_size} tokens) would take more than {} MiB; \
                 lower it or generate fewer rows at once",
                SCORE_BYTES >> 20
            ),
        ));
    }
    Ok(())
}

fn facts(
    options: &GenerationOptions,
    vocab_size: usize,
    index: usize,
    row: RowInput,
) -> Result<RowFacts, GenerationError> {
    let RowInput { encoder_ids, decoder_ids } = row;
    for (name, ids) in [("input_ids", &encoder_ids), ("decoder_input_ids", &decoder_ids)] {
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(GenerationError::new(
                INVALID_INPUT,
                format!("{name} of row {index} holds {id}, expected ids from 0 to {}", vocab_size - 1),
            ));
        }
    }
    let prefix = prefix(options, decoder_ids)?;
    let prompt_length = prefix.len();
    let max_length = options.length_limit(prompt_length);
    if prompt_length >= max_length {
        return Err(GenerationError::option(
            INVALID_OPTION,
            "max_length",
            format!(
                "max_length is {max_length}, but decoder_input_ids of row {index} already have {prompt_length}; raise \
                 it or set max_new_tokens"
            ),
        ));
    }
    // A forced first token moves the beginning by one.
    let begin_index = prompt_length + usize::from(prompt_length == 1 && options.forced_bos_token_id.is_some());
    let content = content_of(&encoder_ids, &prefix, options.padding());
    Ok(RowFacts { prefix, prompt_length, max_length, begin_index, encoder_ids, content })
}

fn prefix(options: &GenerationOptions, decoder_ids: Vec<u32>) -> Result<Vec<u32>, GenerationError> {
    let start = options.decoder_start_token_id.or(options.bos_token_id);
    let Some(start) = start else {
        return Err(GenerationError::option(
            INVALID_OPTION,
            "decoder_start_token_id",
            "decoder_start_token_id or bos_token_id has to be set: the decoder begins with it",
        ));
    };
    if decoder_ids.first() == Some(&start) {
        return Ok(decoder_ids);
    }
    let mut prefix = Vec::with_capacity(decoder_ids.len() + 1);
    prefix.push(start);
    prefix.extend(decoder_ids);
    Ok(prefix)
}
