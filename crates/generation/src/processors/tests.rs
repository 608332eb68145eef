//! Each processor's own rules and edges. That they match the reference on ordinary scores is tested in
//! `tests/processors.rs`.

use serde_json::{json, Value};

use super::{RowContext, ScorePipeline};
use crate::options::GenerationOptions;
use crate::process_scores;

const MINUS: f32 = f32::NEG_INFINITY;

/// The scores of one row after `option`.
fn applied(option: Value, ids: &[u32], scores: &[f32]) -> Vec<f32> {
    let mut scores = scores.to_vec();
    process_scores(&option, &[ids.to_vec()], &mut scores).unwrap_or_else(|error| panic!("{option}: {error}"));
    scores
}

/// The tokens that a row of scores leaves possible.
fn possible(scores: &[f32]) -> Vec<usize> {
    (0..scores.len()).filter(|token| scores[*token] != MINUS).collect()
}

/// As `generate` applies them, `options` being all of the options.
fn generated(options: Value, ids: &[u32], prompt_length: usize, scores: &[f32]) -> Vec<f32> {
    let options = GenerationOptions::from_json(&options, scores.len()).expect("valid options");
    let mut pipeline = ScorePipeline::new(&options);
    let row = RowContext {
        ids,
        prompt_length,
        max_length: options.length_limit(prompt_length),
        encoder_ids: &[],
        begin_index: prompt_length,
        previous_group_tokens: &[2, 2, 3],
    };
    let mut scores = scores.to_vec();
    pipeline.process(&row, &mut scores);
    pipeline.warp(&row, &mut scores);
    scores
}

#[test]
fn top_k_keeps_ties_and_everything_when_k_is_large() {
    assert_eq!(possible(&applied(json!({ "top_k": 2 }), &[0], &[1.0, 3.0, 2.0, 2.0])), [1, 2, 3]);
    assert_eq!(possible(&applied(json!({ "top_k": 4 }), &[0], &[1.0, 3.0, 2.0, 2.0])), [0, 1, 2, 3]);
    assert_eq!(possible(&applied(json!({ "top_k": 4_000_000_000_u32 }), &[0], &[1.0, MINUS])), [0]);
    assert_eq!(possible(&applied(json!({ "top_k": 3 }), &[0], &[1.0, MINUS, MINUS, 0.0])), [0, 3]);
}

#[test]
fn top_p_keeps_the_token_that_reaches_p_and_at_least_one() {
    let scores = [0.1_f32.ln(), 0.4_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
    assert_eq!(possible(&applied(json!({ "top_p": 0.0 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "top_p": 0.3 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "top_p": 0.5 }), &[0], &scores)), [1, 2]);
    assert_eq!(possible(&applied(json!({ "top_p": 0.95 }), &[0], &scores)), [0, 1, 2, 3]);
    // Of equals the reference keeps the higher ids.
    assert_eq!(possible(&applied(json!({ "top_p": 0.5 }), &[0], &[0.0; 4])), [2, 3]);
}

#[test]
fn cutoffs_always_leave_the_most_likely_token() {
    let scores = [0.0, 3.0, 0.05, 0.0];
    assert_eq!(possible(&applied(json!({ "epsilon_cutoff": 0.9 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "eta_cutoff": 0.9 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "min_p": 1.0 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "top_h": 1e-6 }), &[0], &scores)), [1]);
    assert_eq!(possible(&applied(json!({ "top_h": 1.0 }), &[0], &scores)), [0, 1, 2, 3]);
    assert_eq!(possible(&applied(json!({ "min_p": 0.0 }), &[0], &scores)), [0, 1, 2, 3]);
}

#[test]
fn beams_keep_one_token_more_than_there_are_end_tokens() {
    let scores = [0.0, 9.0, 8.0, 7.0, 1.0];
    for warper in
        [json!({ "top_k": 1 }), json!({ "top_p": 0.0 }), json!({ "min_p": 1.0 }), json!({ "epsilon_cutoff": 0.99 })]
    {
        let mut options = json!({ "top_k": 0, "do_sample": true, "num_beams": 2, "eos_token_id": [1, 2] });
        options.as_object_mut().unwrap().extend(warper.as_object().unwrap().clone());
        assert_eq!(possible(&generated(options, &[0], 1, &scores)), [1, 2, 3], "{warper}");
    }
}

#[test]
fn repetition_penalty_acts_once_on_each_token_and_by_sign() {
    let scores = applied(json!({ "repetition_penalty": 2.0 }), &[1, 1, 2, 1], &[1.0, 4.0, -4.0, MINUS]);
    assert_eq!(scores, [1.0, 2.0, -8.0, MINUS]);
    let option = json!({ "encoder_repetition_penalty": 2.0, "encoder_input_ids": [[1, 2, 2]] });
    assert_eq!(applied(option, &[0], &[1.0, 4.0, -4.0]), [1.0, 8.0, -2.0]);
}

#[test]
fn ngrams_longer_than_the_row_forbid_nothing() {
    let scores = [0.0; 8];
    assert_eq!(possible(&applied(json!({ "no_repeat_ngram_size": 4 }), &[1, 2], &scores)).len(), 8);
    assert_eq!(
        possible(&applied(json!({ "no_repeat_ngram_size": 9_007_199_254_740_991_u64 }), &[1, 2], &scores)).len(),
        8
    );
    assert_eq!(possible(&applied(json!({ "no_repeat_ngram_size": 1 }), &[1, 2, 1], &scores)), [0, 3, 4, 5, 6, 7]);
    assert_eq!(
        possible(&applied(json!({ "no_repeat_ngram_size": 2 }), &[1, 2, 3, 2, 1], &scores)),
        [0, 1, 3, 4, 5, 6, 7]
    );
    let option = |size: usize| json!({ "encoder_no_repeat_ngram_size": size, "encoder_input_ids": [[3, 4, 5]] });
    assert_eq!(possible(&applied(option(3), &[4], &scores)).len(), 8);
    assert_eq!(possible(&applied(option(3), &[3, 4], &scores)), [0, 1, 2, 3, 4, 6, 7]);
    assert_eq!(possible(&applied(option(9), &[3, 4], &scores)).len(), 8);
}

#[test]
fn biases_add_up_and_the_last_of_equal_sequences_counts() {
    let option =
        json!({ "sequence_bias": [[[1], 1.0], [[1], 2.0], [[5, 1], 10.0], [[4, 5, 1], -0.5], [[9, 9, 9, 9, 1], 7.0]] });
    assert_eq!(applied(option.clone(), &[4, 5], &[0.0; 10])[1], 11.5);
    assert_eq!(applied(option.clone(), &[5], &[0.0; 10])[1], 12.0);
    assert_eq!(applied(option, &[6], &[0.0; 10])[1], 2.0);
}

#[test]
fn bad_words_never_forbid_an_end_token_alone() {
    let option = json!({ "bad_words_ids": [[1], [2], [3, 1], [4, 5]], "eos_token_id": [1, 7] });
    assert_eq!(possible(&applied(option.clone(), &[0], &[0.0; 8])), [0, 1, 3, 4, 5, 6, 7]);
    assert_eq!(possible(&applied(option, &[3], &[0.0; 8])), [0, 3, 4, 5, 6, 7]);
}

#[test]
fn end_tokens_are_forbidden_until_the_length_is_reached() {
    let ends = json!([1, 3]);
    let of = |ids: &[u32]| possible(&applied(json!({ "min_length": 3, "eos_token_id": ends }), ids, &[0.0; 5]));
    assert_eq!(of(&[0, 0]), [0, 2, 4]);
    assert_eq!(of(&[0, 0, 0]).len(), 5);
    let of = |ids: &[u32], prompt: usize| {
        possible(&generated(
            json!({ "min_new_tokens": 2, "min_length": 9, "eos_token_id": ends }),
            ids,
            prompt,
            &[0.0; 5],
        ))
    };
    assert_eq!(of(&[0, 0, 0], 2), [0, 2, 4]);
    assert_eq!(of(&[0, 0, 0, 0], 2).len(), 5);
}

#[test]
fn forced_tokens_stand_second_and_last() {
    let bos = |ids: &[u32]| applied(json!({ "forced_bos_token_id": 2 }), ids, &[5.0; 4]);
    assert_eq!(bos(&[0]), [MINUS, MINUS, 0.0, MINUS]);
    assert_eq!(bos(&[0, 1]), [5.0; 4]);
    let eos = |ids: &[u32]| applied(json!({ "forced_eos_token_id": [1, 3], "max_length": 3 }), ids, &[5.0; 4]);
    assert_eq!(eos(&[0, 1]), [MINUS, 0.0, MINUS, 0.0]);
    assert_eq!(eos(&[0]), [5.0; 4]);
}

#[test]
fn exponential_decay_raises_end_tokens_without_making_nan() {
    let option = json!({ "exponential_decay_length_penalty": [1, 2.0], "prompt_length": 1, "eos_token_id": [1, 1, 2] });
    let of = |ids: &[u32]| applied(option.clone(), ids, &[1.0, 1.0, -1.0, MINUS]);
    assert_eq!(of(&[0, 0]), [1.0, 1.0, -1.0, MINUS]);
    assert_eq!(of(&[0, 0, 0]), [1.0, 2.0, 0.0, MINUS]);
    let long = vec![0; 3000];
    assert!(of(&long).iter().all(|score| !score.is_nan()));
    assert_eq!(applied(option, &long, &[1.0, MINUS, 0.0, 3.0]), [1.0, MINUS, 0.0, 3.0]);
}

#[test]
fn diversity_is_charged_by_how_many_beams_chose_a_token() {
    let options = json!({ "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5 });
    assert_eq!(generated(options, &[0], 1, &[1.0; 5]), [1.0, 1.0, 0.0, 0.5, 1.0]);
}

/// Options that between them use every processor and warper.
const EVERY: [&str; 20] = [
    r#"{"temperature":0.5}"#,
    r#"{"top_k":3}"#,
    r#"{"top_p":0.5}"#,
    r#"{"min_p":0.2}"#,
    r#"{"top_h":0.5}"#,
    r#"{"typical_p":0.5}"#,
    r#"{"epsilon_cutoff":0.1}"#,
    r#"{"eta_cutoff":0.1}"#,
    r#"{"repetition_penalty":1.5}"#,
    r#"{"encoder_repetition_penalty":1.5,"encoder_input_ids":[[1,2]]}"#,
    r#"{"no_repeat_ngram_size":2}"#,
    r#"{"encoder_no_repeat_ngram_size":1,"encoder_input_ids":[[1,2]]}"#,
    r#"{"bad_words_ids":[[1],[2,3]]}"#,
    r#"{"sequence_bias":[[[1],2.0]]}"#,
    r#"{"min_length":9,"eos_token_id":1}"#,
    r#"{"min_new_tokens":9,"prompt_length":1,"eos_token_id":1}"#,
    r#"{"suppress_tokens":[1]}"#,
    r#"{"begin_suppress_tokens":[1],"begin_index":2}"#,
    r#"{"renormalize_logits":true}"#,
    r#"{"exponential_decay_length_penalty":[0,1.5],"prompt_length":1,"eos_token_id":1}"#,
];

#[test]
fn a_row_with_nothing_possible_stays_so() {
    for option in EVERY {
        let scores = applied(serde_json::from_str(option).unwrap(), &[0, 1], &[MINUS; 7]);
        assert_eq!(scores, [MINUS; 7], "{option}");
    }
}

#[test]
fn invalid_scores_do_no_harm_and_are_removed_on_request() {
    let scores = [f32::NAN, f32::INFINITY, MINUS, 1.0, f32::NAN, -1.0, 0.0];
    for option in EVERY {
        assert_eq!(applied(serde_json::from_str(option).unwrap(), &[0, 1], &scores).len(), 7);
        applied(serde_json::from_str(option).unwrap(), &[0, 1], &[f32::NAN; 7]);
    }
    let valid = applied(json!({ "remove_invalid_values": true }), &[0], &scores);
    assert_eq!(valid, [0.0, f32::MAX, f32::MIN, 1.0, 0.0, -1.0, 0.0]);
}

#[test]
fn process_scores_refuses_what_does_not_fit() {
    let fails = |option: Value, rows: usize, scores: usize| {
        let error = process_scores(&option, &vec![vec![0]; rows], &mut vec![0.0; scores]).expect_err("an error");
        (error.code, error.option.unwrap_or_default())
    };
    assert_eq!(fails(json!({ "top_k": 1 }), 0, 0).0, "INVALID_INPUT");
    assert_eq!(fails(json!({ "top_k": 1 }), 2, 3).0, "INVALID_INPUT");
    assert_eq!(fails(json!([]), 1, 3).0, "INVALID_OPTION");
    assert_eq!(fails(json!({ "top_j": 1 }), 1, 3), ("UNSUPPORTED_OPTION", "top_j".to_owned()));
    assert_eq!(fails(json!({ "encoder_input_ids": [[1], [2]] }), 3, 9).1, "encoder_input_ids");
    assert_eq!(fails(json!({ "encoder_input_ids": [[9]] }), 1, 3).1, "encoder_input_ids");
    for entry in [json!([9, 0, "nan"]), json!([0, 3, "nan"]), json!([0, 0, "zero"]), json!([0]), json!(1)] {
        assert_eq!(fails(json!({ "input_overrides": [entry] }), 1, 3).1, "input_overrides");
    }
}
