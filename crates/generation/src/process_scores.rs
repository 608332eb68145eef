//! One generation option applied to given scores: the operation `process_scores`.

use serde_json::{Map, Value};

use crate::error::{GenerationError, INVALID_INPUT, INVALID_OPTION};
use crate::options::GenerationOptions;
use crate::processors::{RowContext, ScorePipeline};

/// Applies what `option` asks for to `scores`, row-major `[input_ids.len(), vocabulary]`, in place.
///
/// `option` is an object of generation options as for `generate` (usually one), sampling's warpers included whether or
/// not it says `do_sample`; nothing is on that it does not name. Besides, it may say what `generate` would know:
/// - `encoder_input_ids`: the rows' encoder ids, one list for each row or for each of the same number of rows;
/// - `prompt_length`: how many of a row's ids are its prefix (default: all);
/// - `begin_index`: the length at which `begin_suppress_tokens` acts (default: `prompt_length`);
/// - `input_overrides`: `[row, token, "nan" | "inf" | "-inf"]` entries, written into the scores first.
///
/// Errors: `INVALID_INPUT` for ids or scores that do not fit together, and those of
/// [`GenerationOptions::from_json`].
pub fn process_scores(option: &Value, input_ids: &[Vec<u32>], scores: &mut [f32]) -> Result<(), GenerationError> {
    let rows = input_ids.len();
    let Some(vocab_size) = scores.len().checked_div(rows).filter(|size| *size > 0 && size * rows == scores.len())
    else {
        return Err(GenerationError::new(
            INVALID_INPUT,
            format!("{} scores do not divide into {rows} rows of input_ids", scores.len()),
        ));
    };
    let Some(map) = option.as_object() else {
        return Err(GenerationError::new(INVALID_OPTION, "option is not an object of option names and values"));
    };
    let context = Context::read(map, vocab_size)?;
    if !context.encoder_ids.is_empty() && !rows.is_multiple_of(context.encoder_ids.len()) {
        let found = context.encoder_ids.len();
        return Err(invalid(
            "encoder_input_ids",
            format!("encoder_input_ids has {found} rows, expected a divisor of the {rows} rows of input_ids"),
        ));
    }
    override_scores(map.get("input_overrides"), vocab_size, scores)?;

    let mut pipeline = ScorePipeline::new(&options(map, vocab_size)?);
    let rows_per_encoder = rows.checked_div(context.encoder_ids.len()).unwrap_or(1).max(1);
    for (row, (ids, scores)) in input_ids.iter().zip(scores.chunks_mut(vocab_size)).enumerate() {
        let prompt_length = context.prompt_length.unwrap_or(ids.len());
        let row = RowContext {
            ids,
            prompt_length,
            max_length: context.max_length.unwrap_or(usize::MAX),
            encoder_ids: context.encoder_ids.get(row / rows_per_encoder).map_or(&[], Vec::as_slice),
            begin_index: context.begin_index.unwrap_or(prompt_length),
            previous_group_tokens: &[],
        };
        pipeline.process(&row, scores);
        pipeline.warp(&row, scores);
    }
    Ok(())
}

/// What `generate` knows besides the options.
struct Context {
    encoder_ids: Vec<Vec<u32>>,
    prompt_length: Option<usize>,
    begin_index: Option<usize>,
    max_length: Option<usize>,
}

const CONTEXT: [&str; 4] = ["encoder_input_ids", "prompt_length", "begin_index", "input_overrides"];

impl Context {
    fn read(map: &Map<String, Value>, vocab_size: usize) -> Result<Self, GenerationError> {
        let mut reader = crate::options::Reader::new(map, vocab_size);
        let context = Self {
            encoder_ids: reader.token_lists("encoder_input_ids").unwrap_or_default(),
            prompt_length: reader.count("prompt_length", 0),
            begin_index: reader.count("begin_index", 0),
            max_length: reader.count("max_length", 1),
        };
        match reader.faults.is_empty() {
            true => Ok(context),
            false => Err(GenerationError::from_faults(reader.faults)),
        }
    }
}

fn options(map: &Map<String, Value>, vocab_size: usize) -> Result<GenerationOptions, GenerationError> {
    let mut given = map.clone();
    given.retain(|name, _| !CONTEXT.contains(&name.as_str()));
    given.insert("do_sample".to_owned(), Value::Bool(true));
    // 50 by default in `generate`; here only what is named acts.
    given.entry("top_k").or_insert(Value::from(0));
    GenerationOptions::from_json(&Value::Object(given), vocab_size)
}

fn override_scores(overrides: Option<&Value>, vocab_size: usize, scores: &mut [f32]) -> Result<(), GenerationError> {
    let entries = match overrides {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value.as_array().map(Vec::as_slice),
    };
    let expected =
        || invalid("input_overrides", "input_overrides: expected [row, token, \"nan\" | \"inf\" | \"-inf\"]");
    for entry in entries.ok_or_else(expected)? {
        let Some([row, token, value]) = entry.as_array().map(Vec::as_slice) else { return Err(expected()) };
        let value = match value.as_str() {
            Some("nan") => f32::NAN,
            Some("inf") => f32::INFINITY,
            Some("-inf") => f32::NEG_INFINITY,
            _ => return Err(expected()),
        };
        let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
        let place = index(row)
            .zip(index(token).filter(|token| *token < vocab_size))
            .and_then(|(row, token)| row.checked_mul(vocab_size)?.checked_add(token));
        *place.and_then(|place| scores.get_mut(place)).ok_or_else(expected)? = value;
    }
    Ok(())
}

fn invalid(option: &str, message: impl Into<String>) -> GenerationError {
    GenerationError::option(INVALID_OPTION, option, message)
}
