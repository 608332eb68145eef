//! Whole generations against `transformers`, see `test/fixtures/generation/make_sequences.py`.

mod common;

use common::{generate, options};
use serde_json::Value;

fn ids(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).expect("lists of ids")
}

fn numbers(value: &Value) -> Vec<f32> {
    let number = |x: &Value| x.as_f64().map_or(f32::NEG_INFINITY, |x| x as f32);
    value.as_array().expect("a list").iter().map(number).collect()
}

fn assert_near(name: &str, case: &Value, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{name} of {case}");
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            a == e || (a - e).abs() <= 1e-5 * e.abs().max(1.0),
            "{name} of {case}: {actual:?}, expected {expected:?}"
        );
    }
}

fn check(text: &str) -> usize {
    let file: Value = serde_json::from_str(text).expect("JSON");
    let encoder_ids = ids(&file["encoder_ids"]);
    let cases = file["cases"].as_array().expect("cases");
    let mut failures = Vec::new();
    for case in cases {
        let mut given = case["options"].clone();
        let decoder_ids = given.as_object_mut().expect("options").remove("decoder_input_ids");
        let options = options(&given);
        let decoder_ids = decoder_ids.map(|value| ids(&value)).unwrap_or_default();
        let result = generate(&options, &encoder_ids, &decoder_ids, 0);
        let mut expected = ids_or_minus_one(&case["sequences"]);
        // Without end tokens the reference fills beams with -1, which is no id; here it is the padding.
        expected.iter_mut().flatten().for_each(|id| *id = (*id).max(0));
        let actual: Vec<Vec<i64>> =
            result.sequences.iter().map(|row| row.iter().map(|id| i64::from(*id)).collect()).collect();
        if actual != expected {
            failures.push(format!("{}\n  {actual:?}\n  expected\n  {expected:?}", case["options"]));
            continue;
        }
        if let Some(scores) = case.get("sequences_scores") {
            assert_near(
                "scores",
                &case["options"],
                result.sequences_scores.as_deref().unwrap_or(&[]),
                &numbers(scores),
            );
        }
        if let Some(indices) = case.get("beam_indices") {
            let expected: Vec<Vec<i32>> = serde_json::from_value(indices.clone()).expect("indices");
            assert_eq!(result.beam_indices, Some(expected), "{}", case["options"]);
        }
        check_steps(case, "scores", result.scores.as_deref());
        check_steps(case, "logits", result.logits.as_deref());
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    cases.len()
}

fn ids_or_minus_one(value: &Value) -> Vec<Vec<i64>> {
    serde_json::from_value(value.clone()).expect("lists of ids")
}

/// Scores of each step; the reference goes on computing those of finished rows, which are zero here.
fn check_steps(case: &Value, name: &str, actual: Option<&[Vec<f32>]>) {
    let (Some(expected), Some(actual)) = (case.get(name).and_then(Value::as_array), actual) else { return };
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        let expected = numbers(expected);
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.chunks(common::VOCAB).zip(expected.chunks(common::VOCAB)) {
            if actual.iter().any(|score| *score != 0.0) {
                assert_near(name, &case["options"], actual, expected);
            }
        }
    }
}

#[test]
fn greedy_and_beam_search_match_the_reference() {
    assert_eq!(check(include_str!("../../../test/fixtures/generation/sequences.json")), 45);
}

#[test]
fn diverse_beam_search_and_contrastive_search_match_the_last_version_that_had_them() {
    assert_eq!(check(include_str!("../../../test/fixtures/generation/sequences-4.53.json")), 20);
}

/// More files of the form, named by an environment variable, for checking by hand with other options.
#[test]
fn other_files_of_the_form_match_too() {
    let Ok(paths) = std::env::var("SEQUENCE_CASES") else { return };
    for path in std::env::split_paths(&paths) {
        assert!(check(&std::fs::read_to_string(&path).expect("a readable file")) > 0);
    }
}
