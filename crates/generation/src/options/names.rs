//! Which option names are known, which are known but not available, and what an unknown one may have meant.

use serde_json::Value;

/// Options that have an effect here.
pub const SUPPORTED: &[&str] = &[
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "early_stopping",
    "max_time",
    "stop_strings",
    "do_sample",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "penalty_alpha",
    "use_cache",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "sequence_bias",
    "renormalize_logits",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "guidance_scale",
    "num_return_sequences",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "return_dict_in_generate",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "seed",
];

/// Facts about a generation_config.json rather than options.
pub const METADATA: &[&str] = &["_from_model_config", "_commit_hash", "transformers_version"];

/// Options of the reference that are not available, with why, and a test for values that ask for nothing.
pub const UNSUPPORTED: &[(&str, &str, Harmless)] = &[
    ("force_words_ids", "constrained beam search is not available", Harmless::Null),
    ("constraints", "constrained beam search is not available", Harmless::Null),
    ("assistant_model", "assisted generation is not available", Harmless::Null),
    ("assistant_tokenizer", "assisted generation is not available", Harmless::Null),
    ("prompt_lookup_num_tokens", "assisted generation is not available", Harmless::Null),
    ("assistant_early_exit", "assisted generation is not available", Harmless::Null),
    ("assistant_ensemble_weight", "assisted generation is not available", Harmless::Null),
    ("speculation_type", "assisted generation is not available", Harmless::Null),
    ("max_matching_ngram_size", "assisted generation is not available", Harmless::Null),
    ("use_mtp", "assisted generation is not available", Harmless::False),
    ("is_assistant", "assisted generation is not available", Harmless::False),
    ("num_assistant_tokens", "assisted generation is not available", Harmless::Number(20.0)),
    ("num_assistant_tokens_schedule", "assisted generation is not available", Harmless::Text("constant")),
    ("assistant_confidence_threshold", "assisted generation is not available", Harmless::Number(0.4)),
    ("assistant_lookbehind", "assisted generation is not available", Harmless::Number(10.0)),
    ("target_lookbehind", "assisted generation is not available", Harmless::Number(10.0)),
    ("dola_layers", "DoLa decoding is not available", Harmless::Null),
    ("low_memory", "the reference removed it from beam search", Harmless::False),
    ("token_healing", "it needs a tokenizer inside generation", Harmless::False),
    ("watermarking_config", "watermarking is not available", Harmless::Null),
    ("cache_implementation", "the key/value cache has one implementation here", Harmless::Null),
    ("cache_config", "the key/value cache has one implementation here", Harmless::Null),
    ("max_cache_len", "the key/value cache has one implementation here", Harmless::Null),
    ("compile_config", "nothing is compiled at run time", Harmless::Null),
    ("disable_compile", "nothing is compiled at run time", Harmless::Boolean),
    ("prefill_chunk_size", "the prefix is fed at once", Harmless::Null),
    ("continuous_batching_config", "continuous batching is not available", Harmless::Null),
    ("custom_generate", "a custom decoding loop is not available", Harmless::Null),
    ("synced_gpus", "there is one device", Harmless::False),
    ("negative_prompt_ids", "guidance_scale is not available for encoder-decoder models", Harmless::Null),
    ("negative_prompt_attention_mask", "guidance_scale is not available for encoder-decoder models", Harmless::Null),
    ("prefix_allowed_tokens_fn", "it is a function: give a logits_processor instead", Harmless::Null),
];

/// Values of an unavailable option that ask for nothing, besides null.
pub enum Harmless {
    Null,
    False,
    Boolean,
    Number(f64),
    Text(&'static str),
}

impl Harmless {
    pub fn allows(&self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::False => value.is_null() || value == &Value::Bool(false),
            Self::Boolean => value.is_null() || value.is_boolean(),
            Self::Number(n) => value.is_null() || value.as_f64() == Some(*n),
            Self::Text(text) => value.is_null() || value.as_str() == Some(text),
        }
    }
}

/// The supported name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    // A long name is not a slip of the keys, and the table below would be large.
    if name.len() > 64 {
        return None;
    }
    let normal: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SUPPORTED
        .iter()
        .map(|known| (distance(&normal, &known.replace('_', "")), *known))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 5))
        .map(|(_, known)| known)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        assert_eq!(nearest("max_new_token"), Some("max_new_tokens"));
        assert_eq!(nearest("numBeams"), Some("num_beams"));
        assert_eq!(nearest("repetition_penality"), Some("repetition_penalty"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(1 << 20)), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
