//! `process_scores` against what `transformers` 5.18.0 makes of the same scores.

use serde_json::Value;
use switch_generation::process_scores;

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    let rows = value.as_array().expect("rows");
    let number = |x: &Value| x.as_f64().map_or(f32::NEG_INFINITY, |x| x as f32);
    rows.iter().map(|row| row.as_array().expect("row").iter().map(number).collect()).collect()
}

fn ids(value: &Value) -> Vec<Vec<u32>> {
    matrix(value).iter().map(|row| row.iter().map(|x| *x as u32).collect()).collect()
}

/// Every case of a file in the form of `processors.json` within 1e-5.
fn check(file: &Value) -> usize {
    let scores = matrix(&file["scores"]);
    let cases = file["cases"].as_array().expect("cases");
    for case in cases {
        let mut actual = scores.concat();
        let option = &case["option"];
        process_scores(option, &ids(&case["input_ids"]), &mut actual)
            .unwrap_or_else(|error| panic!("{option}: {error}"));
        for (index, (actual, expected)) in actual.iter().zip(matrix(&case["output"]).concat()).enumerate() {
            let near = *actual == expected || (actual - expected).abs() <= 1e-5 * expected.abs().max(1.0);
            assert!(near, "{option} at {index}: {actual}, expected {expected}");
        }
    }
    cases.len()
}

#[test]
fn every_option_matches_the_reference() {
    let file: Value = serde_json::from_str(include_str!("../../../test/fixtures/generation/processors.json")).unwrap();
    assert_eq!(check(&file), 39);
}

/// More files of the form, named by an environment variable, for checking by hand with other seeds.
#[test]
fn other_files_of_the_form_match_too() {
    let Ok(paths) = std::env::var("PROCESSOR_CASES") else { return };
    for path in std::env::split_paths(&paths) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        assert!(check(&serde_json::from_str(&text).expect("JSON")) > 0);
    }
}
