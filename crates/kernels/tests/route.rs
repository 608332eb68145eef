//! Routing against values from the original implementation and from the reference.

mod support;
use serde_json::Value;
use std::path::Path;
use support::*;
use switch_kernels::{linear, route_top1, Matrix, Rounding, RouteOptions, Routes, Values};

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/routing").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The numbers of a nested array, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn floats(value: &Value) -> Vec<f32> {
    flat(value).into_iter().map(|x| x as f32).collect()
}

fn integers(value: &Value) -> Vec<i32> {
    flat(value).into_iter().map(|x| x as i32).collect()
}

#[test]
fn the_original_policy_matches_the_original_implementation() {
    let fixture = fixture("routing-original.json");
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for (index, case) in cases.iter().enumerate() {
        let experts = case["num_experts"].as_u64().unwrap() as usize;
        let capacity = case["expert_capacity"].as_u64().unwrap() as usize;
        let groups = case["logits"].as_array().unwrap().len();
        let tokens = case["logits"][0].as_array().unwrap().len();
        let mask: Option<Vec<u8>> = case["padding_mask"]
            .is_array()
            .then(|| flat(&case["padding_mask"]).into_iter().map(|x| u8::from(x != 0.0)).collect());
        let options = RouteOptions {
            ignore_padding: case["ignore_padding_tokens"].as_bool().unwrap(),
            ..RouteOptions::original(capacity, case["batch_prioritized_routing"].as_bool().unwrap())
        };
        let routes = route_top1(&floats(&case["logits"]), groups, tokens, experts, mask.as_deref(), &options).unwrap();
        assert_eq!(routes.expert, integers(&case["expert"]), "experts of case {index}");
        assert_eq!(routes.slot, integers(&case["slot"]), "slots of case {index}");
        for (found, expected) in routes.weight.iter().zip(floats(&case["weight"])) {
            assert!((found - expected).abs() <= 2.4e-7 * expected, "case {index}: weight {found}, expected {expected}");
        }
    }
}

#[test]
fn the_reference_routers_own_test_values() {
    let router = &fixture("router-values.json")["router"];
    let hidden = floats(&router["hidden_states"]);
    // Transposed: [d, experts].
    let (transposed, d) = (floats(&router["classifier_weight_transposed"]), 4);
    let experts = transposed.len() / d;
    let classifier: Vec<f32> = (0..experts * d).map(|i| transposed[i % d * experts + i / d]).collect();
    let mut logits = vec![0.0; 6 * experts];
    linear(&hidden, 6, Matrix::new(Values::F32(&classifier), experts, d).unwrap(), &mut logits).unwrap();
    let z_loss = logits
        .chunks_exact(experts)
        .map(|row| row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln().powi(2))
        .sum::<f64>()
        / 6.0;
    assert!((z_loss - router["router_z_loss"].as_f64().unwrap()).abs() < 1e-6);
    let capacity = router["expert_capacity"].as_u64().unwrap() as usize;
    let routes = route_top1(&logits, 2, 3, experts, None, &RouteOptions::reference(capacity)).unwrap();
    let best = |row: &[f32]| i32::from(row[1] > row[0]);
    assert_eq!(routes.expert, logits.chunks_exact(2).map(best).collect::<Vec<_>>());
    assert!(routes.weight.iter().all(|&w| (0.5..0.51).contains(&w)));
}

/// The reference's router written out: softmax, argmax, one-hot, cumulative count, capacity mask.
fn naive(logits: &[f32], groups: usize, tokens: usize, experts: usize, capacity: usize) -> Routes {
    let mut routes = Routes::default();
    for group in 0..groups {
        let mut count = vec![0; experts];
        for token in 0..tokens {
            let row = &logits[(group * tokens + token) * experts..][..experts];
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let expert = (0..experts).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let kept = count[expert] < capacity;
            routes.expert.push(if kept { expert as i32 } else { -1 });
            routes.slot.push(if kept { count[expert] as i32 } else { -1 });
            routes.weight.push((f64::from(row[expert]).exp() / sum) as f32);
            count[expert] += 1;
        }
    }
    routes
}

#[test]
fn the_reference_policy_counts_capacity_per_row_in_position_order() {
    let mut random = Random(6);
    for (groups, tokens, experts, capacity) in
        [(1, 1, 1, 1), (3, 40, 4, 5), (2, 64, 64, 1), (2, 9, 8, 0), (2, 9, 2, 100)]
    {
        let logits = random.vec(groups * tokens * experts);
        let found = route_top1(&logits, groups, tokens, experts, None, &RouteOptions::reference(capacity)).unwrap();
        let expected = naive(&logits, groups, tokens, experts, capacity);
        assert_eq!((&found.expert, &found.slot), (&expected.expert, &expected.slot));
        assert_close(&found.weight, &expected.weight, 1e-6, "weights");
    }
}

#[test]
fn a_dropped_token_keeps_its_probability_in_the_reference_policy_only() {
    let logits = [2.0, 1.0, 2.0, 1.0];
    let routes = route_top1(&logits, 1, 2, 2, None, &RouteOptions::reference(1)).unwrap();
    assert_eq!((routes.expert[1], routes.slot[1]), (-1, -1));
    assert_eq!(routes.weight[1], routes.weight[0]);
    let routes = route_top1(&logits, 1, 2, 2, None, &RouteOptions::original(1, false)).unwrap();
    assert_eq!(routes.weight[1], 0.0);
    let routes = route_top1(&logits, 1, 2, 2, None, &RouteOptions::dropless()).unwrap();
    assert_eq!((routes.expert, routes.slot), (vec![0, 0], vec![0, 1]));
}

#[test]
fn equal_probabilities_go_to_the_lowest_index_also_after_rounding() {
    let routes = route_top1(&[1.0, 3.0, 3.0], 1, 1, 3, None, &RouteOptions::dropless()).unwrap();
    assert_eq!(routes.expert, [1]);
    let close = [1.0, 1.0001];
    assert_eq!(route_top1(&close, 1, 1, 2, None, &RouteOptions::dropless()).unwrap().expert, [1]);
    for rounding in [Rounding::F16, Rounding::Bf16] {
        let options = RouteOptions { rounding, ..RouteOptions::dropless() };
        let routes = route_top1(&close, 1, 1, 2, None, &options).unwrap();
        assert_eq!((routes.expert, routes.weight), (vec![0], vec![0.5]));
    }
}

#[test]
fn padding_is_left_out_only_when_asked_for() {
    let (logits, mask) = ([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], [0, 1, 1]);
    let mut options = RouteOptions::reference(1);
    let routes = route_top1(&logits, 1, 3, 2, Some(&mask), &options).unwrap();
    assert_eq!(routes.expert, [0, -1, -1]);
    options.ignore_padding = true;
    let routes = route_top1(&logits, 1, 3, 2, Some(&mask), &options).unwrap();
    assert_eq!((routes.expert, routes.weight[0]), (vec![-1, 0, -1], 0.0));
}

#[test]
fn logits_that_are_not_finite_route_to_the_first_expert_without_a_panic() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for options in [RouteOptions::reference(2), RouteOptions::original(2, true)] {
            let routes = route_top1(&[bad; 12], 2, 3, 2, None, &options).unwrap();
            assert_eq!(routes.expert, [0, 0, -1, 0, 0, -1]);
        }
        let mut random = Random(7);
        let mut logits = random.vec(60);
        logits[17] = bad;
        let options = RouteOptions::original(2, true);
        assert_eq!(route_top1(&logits, 2, 10, 3, None, &options).unwrap().expert.len(), 20);
    }
}

#[test]
fn impossible_shapes_are_refused() {
    let options = RouteOptions::dropless();
    assert_eq!(route_top1(&[], 1, 1, 0, None, &options).unwrap_err().code(), "INVALID_INPUT");
    assert_eq!(route_top1(&[], 1, 1, usize::MAX, None, &options).unwrap_err().code(), "INVALID_INPUT");
    assert_eq!(route_top1(&[], usize::MAX, 2, 2, None, &options).unwrap_err().code(), "OUT_OF_MEMORY");
    assert_eq!(route_top1(&[0.0; 3], 1, 2, 2, None, &options).unwrap_err().code(), "INVALID_INPUT");
    assert!(route_top1(&[0.0; 4], 1, 2, 2, Some(&[1]), &options).is_err());
    assert_eq!(route_top1(&[], usize::MAX, 0, 2, None, &options).unwrap(), Routes::default());
}
