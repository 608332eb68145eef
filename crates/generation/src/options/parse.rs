//! From JSON to checked options, with every fault reported at once.

use serde_json::{Map, Value};

use super::names::{nearest, METADATA, SUPPORTED, UNSUPPORTED};
use super::reader::{quote, whole, Range, Reader};
use super::{EarlyStopping, GenerationOptions};
use crate::error::{GenerationError, OptionFault, INVALID_OPTION, UNSUPPORTED_OPTION};

const POSITIVE: Range = Range { says: "a finite number above 0", holds: |x| x > 0.0 };
const NOT_NEGATIVE: Range = Range { says: "a finite number of at least 0", holds: |x| x >= 0.0 };
const ANY: Range = Range { says: "a finite number", holds: |_| true };
const UNIT: Range = Range { says: "a number from 0 to 1", holds: |x| (0.0..=1.0).contains(&x) };
const UNIT_ABOVE_ZERO: Range = Range { says: "a number above 0, up to 1", holds: |x| x > 0.0 && x <= 1.0 };
const UNIT_BELOW_ONE: Range = Range { says: "a number from 0, below 1", holds: |x| (0.0..1.0).contains(&x) };

impl GenerationOptions {
    /// Reads and checks a JSON object of the reference's option names for a model of `vocab_size` tokens.
    ///
    /// Null is unset. Refused, all at once: a wrong type, a value out of range, an empty list, an id outside the
    /// vocabulary, options that contradict each other (`INVALID_OPTION`); an option that is unknown or not available
    /// (`UNSUPPORTED_OPTION`). Options that the reference only warns about are accepted.
    pub fn from_json(options: &Value, vocab_size: usize) -> Result<Self, GenerationError> {
        let Some(map) = options.as_object() else {
            return Err(GenerationError::new(
                INVALID_OPTION,
                format!("options are {}, expected an object of option names and values", quote(options)),
            ));
        };
        let mut reader = Reader::new(map, vocab_size);
        let parsed = read(&mut reader);
        parsed.find_contradictions(&mut reader.faults);
        let mut faults = reader.faults;
        refuse_unavailable(map, &mut faults);
        match faults.is_empty() {
            true => Ok(parsed),
            false => Err(GenerationError::from_faults(faults)),
        }
    }
}

fn read(reader: &mut Reader<'_>) -> GenerationOptions {
    let defaults = GenerationOptions::default();
    GenerationOptions {
        max_length: reader.count("max_length", 1),
        max_new_tokens: reader.count("max_new_tokens", 1),
        min_length: reader.count("min_length", 0).unwrap_or(0),
        min_new_tokens: reader.count("min_new_tokens", 0),
        early_stopping: early_stopping(reader),
        max_time: reader.number("max_time", &NOT_NEGATIVE),
        stop_strings: stop_strings(reader),
        do_sample: reader.boolean("do_sample").unwrap_or(false),
        num_beams: reader.count("num_beams", 1).unwrap_or(1),
        num_beam_groups: reader.count("num_beam_groups", 1).unwrap_or(1),
        diversity_penalty: reader.number("diversity_penalty", &NOT_NEGATIVE).unwrap_or(0.0),
        penalty_alpha: reader.number("penalty_alpha", &UNIT),
        use_cache: reader.boolean("use_cache").unwrap_or(true),
        temperature: reader.number("temperature", &POSITIVE).unwrap_or(1.0),
        top_k: reader.count("top_k", 0).unwrap_or(defaults.top_k),
        top_p: reader.number("top_p", &UNIT).unwrap_or(1.0),
        min_p: reader.number("min_p", &UNIT),
        top_h: reader.number("top_h", &UNIT_ABOVE_ZERO),
        typical_p: reader.number("typical_p", &UNIT_ABOVE_ZERO).unwrap_or(1.0),
        epsilon_cutoff: reader.number("epsilon_cutoff", &UNIT_BELOW_ONE).unwrap_or(0.0),
        eta_cutoff: reader.number("eta_cutoff", &UNIT_BELOW_ONE).unwrap_or(0.0),
        repetition_penalty: reader.number("repetition_penalty", &POSITIVE).unwrap_or(1.0),
        encoder_repetition_penalty: reader.number("encoder_repetition_penalty", &POSITIVE).unwrap_or(1.0),
        length_penalty: reader.number("length_penalty", &ANY).unwrap_or(1.0),
        no_repeat_ngram_size: reader.count("no_repeat_ngram_size", 0).unwrap_or(0),
        encoder_no_repeat_ngram_size: reader.count("encoder_no_repeat_ngram_size", 0).unwrap_or(0),
        bad_words_ids: reader.token_lists("bad_words_ids"),
        sequence_bias: sequence_bias(reader),
        renormalize_logits: reader.boolean("renormalize_logits").unwrap_or(false),
        forced_bos_token_id: reader.token("forced_bos_token_id"),
        forced_eos_token_id: reader.token_or_tokens("forced_eos_token_id"),
        remove_invalid_values: reader.boolean("remove_invalid_values").unwrap_or(false),
        exponential_decay_length_penalty: exponential_decay(reader),
        suppress_tokens: reader.tokens("suppress_tokens"),
        begin_suppress_tokens: reader.tokens("begin_suppress_tokens"),
        num_return_sequences: reader.count("num_return_sequences", 1).unwrap_or(1),
        output_scores: reader.boolean("output_scores").unwrap_or(false),
        output_logits: reader.boolean("output_logits").unwrap_or(false),
        output_attentions: reader.boolean("output_attentions").unwrap_or(false),
        output_hidden_states: reader.boolean("output_hidden_states").unwrap_or(false),
        output_router_logits: reader.boolean("output_router_logits").unwrap_or(false),
        return_dict_in_generate: reader.boolean("return_dict_in_generate").unwrap_or(false),
        pad_token_id: reader.token("pad_token_id"),
        bos_token_id: reader.token("bos_token_id"),
        eos_token_id: reader.token_or_tokens("eos_token_id").unwrap_or_default(),
        decoder_start_token_id: reader.token("decoder_start_token_id"),
        seed: reader.integer("seed", 0),
    }
}

fn early_stopping(reader: &mut Reader<'_>) -> EarlyStopping {
    match reader.value("early_stopping") {
        None | Some(Value::Bool(false)) => EarlyStopping::No,
        Some(Value::Bool(true)) => EarlyStopping::Yes,
        Some(Value::String(text)) if text == "never" => EarlyStopping::Never,
        Some(other) => {
            reader.wrong("early_stopping", other, "true, false or \"never\"");
            EarlyStopping::No
        }
    }
}

fn stop_strings(reader: &mut Reader<'_>) -> Vec<String> {
    let Some(value) = reader.value("stop_strings") else { return Vec::new() };
    let strings = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    match strings.filter(|strings: &Vec<String>| !strings.is_empty() && strings.iter().all(|text| !text.is_empty())) {
        Some(strings) => strings,
        None => {
            reader.wrong("stop_strings", value, "a text or a list of at least one, none of them empty");
            Vec::new()
        }
    }
}

fn sequence_bias(reader: &mut Reader<'_>) -> Option<Vec<(Vec<u32>, f64)>> {
    const NAME: &str = "sequence_bias";
    let value = reader.value(NAME)?;
    let pair = |entry: &Value| match entry.as_array().map(Vec::as_slice) {
        Some([Value::Array(ids), bias]) => Some((reader.ids(ids)?, bias.as_f64().filter(|bias| bias.is_finite())?)),
        _ => None,
    };
    let pairs = value.as_array().filter(|list| !list.is_empty());
    let pairs = pairs.and_then(|list| list.iter().map(pair).collect::<Option<Vec<_>>>());
    if pairs.is_none() {
        let expected = reader.id_says("a list of at least one [token ids, bias], the bias a finite number, the ids");
        reader.wrong(NAME, value, &expected);
    }
    pairs
}

fn exponential_decay(reader: &mut Reader<'_>) -> Option<(usize, f64)> {
    const NAME: &str = "exponential_decay_length_penalty";
    let value = reader.value(NAME)?;
    let pair = match value.as_array().map(Vec::as_slice) {
        Some([start, factor]) => whole(start)
            .and_then(|start| usize::try_from(start).ok())
            .zip(factor.as_f64().filter(|factor| factor.is_finite() && *factor > 0.0)),
        _ => None,
    };
    if pair.is_none() {
        reader.wrong(NAME, value, "[start, factor]: a whole number of at least 0 and a finite number above 0");
    }
    pair
}

fn refuse_unavailable(map: &Map<String, Value>, faults: &mut Vec<OptionFault>) {
    let mut refuse = |option: &str, message: String| {
        faults.push(OptionFault { code: UNSUPPORTED_OPTION, option: option.to_owned(), message });
    };
    for (name, value) in map {
        let name = name.as_str();
        if name == "guidance_scale" {
            if !value.is_null() && value.as_f64() != Some(1.0) {
                // The reference's own processor fails on encoder-decoder models: it calls the model without decoder ids.
                refuse(name, format!("guidance_scale is {}; only 1 is available: it has no defined meaning for encoder-decoder models, for which the reference fails too", quote(value)));
            }
        } else if let Some((_, why, harmless)) = UNSUPPORTED.iter().find(|(known, _, _)| *known == name) {
            if !harmless.allows(value) {
                refuse(name, format!("{name} is {}, which is not supported: {why}; leave it out", quote(value)));
            }
        } else if !SUPPORTED.contains(&name) && !METADATA.contains(&name) {
            let shown: String = name.chars().take(64).collect();
            let hint = nearest(name).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            refuse(&shown, format!("{shown} is not a generation option{hint}"));
        }
    }
}
