//! Each warper against a slow and obviously right version of itself, over random rows with ties and impossible tokens.

use serde_json::{json, Value};
use switch_generation::process_scores;

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

fn probabilities(scores: &[f32]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = scores.iter().map(|score| f64::from(*score - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// Tokens kept, and how near the decision was for those that are not certain.
fn kept(name: &str, x: f64, scores: &[f32]) -> Vec<bool> {
    let p = probabilities(scores);
    let top = p.iter().copied().fold(0.0, f64::max);
    let order = |key: &dyn Fn(usize) -> f64| {
        let mut tokens: Vec<usize> = (0..p.len()).collect();
        tokens.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
        tokens
    };
    match name {
        "top_k" => {
            let mut sorted = scores.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            scores.iter().map(|score| *score >= sorted[x as usize - 1]).collect()
        }
        "top_p" => {
            let mut keep = vec![true; p.len()];
            let mut cumulative = 0.0;
            let ascending = order(&|token| p[token]);
            for token in &ascending[..ascending.len() - 1] {
                cumulative += p[*token];
                keep[*token] = cumulative > 1.0 - x;
            }
            keep
        }
        "min_p" => p.iter().map(|q| *q >= x * top).collect(),
        "epsilon_cutoff" => p.iter().map(|q| *q >= x || *q == top).collect(),
        "eta_cutoff" => {
            let eta = x.min(x.sqrt() * (-entropy(&p)).exp());
            p.iter().map(|q| *q >= eta || *q == top).collect()
        }
        "typical_p" => {
            let h = entropy(&p);
            let distance = |token: usize| (-p[token].ln() - h).abs();
            let ascending = order(&distance);
            let mut cumulative = 0.0;
            let reached = ascending.iter().take_while(|token| {
                cumulative += p[**token];
                cumulative < x
            });
            let limit = distance(ascending[reached.count().min(p.len() - 1)]);
            (0..p.len()).map(|token| distance(token) <= limit).collect()
        }
        _ => unreachable!("{name}"),
    }
}

#[test]
fn warpers_keep_what_their_definitions_keep() {
    let mut numbers = Numbers(1);
    let mut differing = 0;
    let mut decisions = 0;
    for round in 0..400 {
        let size = 2 + (numbers.next() * 700.0) as usize;
        let spread = 0.2 + numbers.next() * 12.0;
        let mut scores: Vec<f32> = (0..size).map(|_| ((numbers.next() - 0.5) * spread) as f32).collect();
        if round % 3 == 0 {
            (0..size / 3).for_each(|_| scores[(numbers.next() * size as f64) as usize % size] = f32::NEG_INFINITY);
            scores[0] = 0.25;
        }
        let k = (1.0 + numbers.next() * size as f64).min(size as f64);
        let fraction = numbers.next().clamp(0.001, 0.999);
        let cases = [
            ("top_k", k.floor()),
            ("top_p", fraction),
            ("min_p", fraction),
            ("typical_p", fraction),
            ("epsilon_cutoff", fraction * 0.05),
            ("eta_cutoff", fraction * 0.3),
        ];
        for (name, x) in cases {
            let mut actual = scores.clone();
            let value = if name == "top_k" { Value::from(x as u64) } else { Value::from(x) };
            process_scores(&json!({ name: value }), &[vec![0]], &mut actual).expect("valid");
            let expected = kept(name, x, &scores);
            for (token, keep) in expected.iter().enumerate() {
                decisions += 1;
                let is_kept = actual[token] != f32::NEG_INFINITY;
                let should_be = *keep && scores[token] != f32::NEG_INFINITY;
                differing += usize::from(is_kept != should_be);
                assert!(!is_kept || actual[token] == scores[token]);
            }
        }
    }
    // Rounding may decide otherwise at the very edge: one token in a row at most, and hardly ever.
    assert!(differing * 100_000 <= decisions, "{differing} of {decisions} decisions differ");
}

#[test]
fn warpers_act_in_the_reference_order() {
    // Temperature first: at 0.25 the likeliest token alone reaches 0.6; before it, two would be needed.
    let scores = [1.0_f32, 0.5, 0.0, -0.5];
    let mut actual = scores;
    process_scores(&json!({ "temperature": 0.25, "top_p": 0.6 }), &[vec![0]], &mut actual).expect("valid");
    assert_eq!(actual.iter().filter(|score| score.is_finite()).count(), 1);
    // The k likeliest first: of the two left, the first has 0.62 and reaches 0.6; of all four it has 0.46 only.
    let mut actual = scores;
    process_scores(&json!({ "top_k": 2, "top_p": 0.6 }), &[vec![0]], &mut actual).expect("valid");
    assert_eq!(actual.iter().filter(|score| score.is_finite()).count(), 1);
}
