//! Tokens that the device chooses, against the rules written out in float64.

use switch_kernels::cuda::{sample_rows, Sampling};

use crate::host::{at, each_order, out};
use crate::support::Random;

fn run(logits: &[f32], n: usize, uniforms: Option<&[f64]>, temperature: f32, top_k: usize, top_p: f64) -> Vec<i32> {
    let rows = logits.len() / n;
    let sampling = Sampling { uniforms: uniforms.map_or(0, at), temperature, top_k, top_p };
    let found = each_order(
        || (vec![f32::NAN; logits.len()], vec![-9i32; rows]),
        |launches, (scores, tokens)| {
            sample_rows(launches, at(logits), &sampling, rows, n, out(scores), out(tokens)).unwrap();
        },
        |(_, tokens)| tokens.iter().map(|token| *token as f32).collect(),
    );
    found.iter().map(|token| *token as i32).collect()
}

/// The token, and how far the draw was from falling to another.
fn expected(row: &[f32], uniform: f64, temperature: f32, top_k: usize, top_p: f64) -> (i32, f64) {
    let scores: Vec<f32> = row.iter().map(|x| x / temperature).collect();
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let least = if top_k > 0 && top_k < row.len() { sorted[top_k - 1] } else { f32::NEG_INFINITY };
    let mut weights: Vec<f64> =
        scores.iter().map(|s| if *s >= least { f64::from((s - sorted[0]).exp()) } else { 0.0 }).collect();
    if top_p < 1.0 {
        let mut order: Vec<usize> = (0..row.len()).filter(|i| weights[*i] > 0.0).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a)));
        let (goal, mut sum, mut kept) = (top_p * weights.iter().sum::<f64>(), 0.0, 0);
        for i in &order {
            sum += weights[*i];
            kept += 1;
            if sum >= goal {
                break;
            }
        }
        order[kept..].iter().for_each(|i| weights[*i] = 0.0);
    }
    let total: f64 = weights.iter().sum();
    let (target, mut sum, mut near) = (uniform * total, 0.0, f64::MAX);
    let mut token = -1;
    for (i, weight) in weights.iter().enumerate() {
        sum += weight;
        near = near.min((sum - target).abs() / total);
        if token < 0 && sum > target {
            token = i as i32;
        }
    }
    (token, near)
}

#[test]
fn draws_follow_temperature_top_k_and_top_p() {
    let mut random = Random(11);
    for n in [7, 300, 1100] {
        for (temperature, top_k, top_p) in [
            (1.0, 0, 1.0),
            (0.7, 0, 1.0),
            (1.3, 5, 1.0),
            (1.0, 0, 0.8),
            (0.5, 40, 0.6),
            (2.0, 3, 0.1),
            (1.0, 5000, 0.999),
        ] {
            let rows = 5;
            // Few different values, so that there are ties.
            let logits: Vec<f32> = (0..rows * n).map(|_| random.below(40) as f32 / 5.0).collect();
            let uniforms: Vec<f64> =
                (0..rows).map(|_| (random.bits() >> 11) as f64 / 9_007_199_254_740_992.0).collect();
            let found = run(&logits, n, Some(&uniforms), temperature, top_k, top_p);
            for ((row, uniform), found) in logits.chunks(n).zip(&uniforms).zip(&found) {
                let (token, near) = expected(row, *uniform, temperature, top_k, top_p);
                // At a boundary the last bit of an exponential decides.
                assert!(*found == token || near < 1e-6, "{n} {temperature} {top_k} {top_p}: {found}, not {token}");
            }
        }
    }
}

#[test]
fn the_ends_of_the_range_draw_the_ends_of_what_is_left() {
    let logits = [f32::NEG_INFINITY, 1.0, 2.0, 1.0, f32::NEG_INFINITY];
    let last = 1.0 - f64::EPSILON / 2.0;
    assert_eq!(run(&logits, 5, Some(&[0.0]), 1.0, 0, 1.0), [1]);
    assert_eq!(run(&logits, 5, Some(&[last]), 1.0, 0, 1.0), [3]);
    assert_eq!(run(&logits, 5, Some(&[last]), 1.0, 1, 1.0), [2]);
    // Of the two that are equally likely the higher id stays.
    assert_eq!(run(&logits, 5, Some(&[0.0]), 1.0, 0, 0.7), [2]);
    assert_eq!(run(&logits, 5, Some(&[last]), 1.0, 0, 0.7), [3]);
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let n = 1500;
    let mut logits = Random(5).vec(4 * n);
    (logits[700], logits[701], logits[60]) = (5.0, 5.0, 5.0);
    (logits[n + 1499], logits[2 * n]) = (5.0, 5.0);
    logits[3 * n..].fill(f32::NEG_INFINITY);
    assert_eq!(run(&logits, n, None, 1.0, 0, 1.0), [60, 1499, 0, 0]);
}

#[test]
fn what_the_host_has_to_refuse_is_left_to_it() {
    let mut nan = vec![1.0; 40];
    nan[33] = f32::NAN;
    assert_eq!(run(&nan, 40, None, 1.0, 0, 1.0), [-1]);
    assert_eq!(run(&nan, 40, Some(&[0.5]), 1.0, 0, 1.0), [-1]);
    assert_eq!(run(&[f32::NEG_INFINITY; 8], 8, Some(&[0.5]), 1.0, 0, 1.0), [-1]);
    assert_eq!(run(&[0.0, f32::INFINITY], 2, Some(&[0.5]), 1.0, 0, 1.0), [-1]);
}
