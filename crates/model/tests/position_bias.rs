//! Relative position buckets against the reference's (test/fixtures/relative_position_buckets.json).

use serde_json::Value;
use switch_model::relative_position_bucket;

#[test]
fn buckets_are_the_references() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/fixtures/relative_position_buckets.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 16);
    for case in cases {
        let number = |name: &str| case[name].as_i64().unwrap();
        let bidirectional = case["bidirectional"].as_bool().unwrap();
        for (i, expected) in case["buckets"].as_array().unwrap().iter().enumerate() {
            let distance = number("first") + i as i64;
            let found = relative_position_bucket(
                distance,
                bidirectional,
                number("num_buckets") as usize,
                number("max_distance") as usize,
            );
            let what = format!("{} buckets to {}, distance {distance}", number("num_buckets"), number("max_distance"));
            assert_eq!(found as i64, expected.as_i64().unwrap(), "{what}, bidirectional {bidirectional}");
        }
    }
}
