//! That tokens are drawn by the distribution that the options define: 200,000 seeded draws against exact probabilities.

mod common;

use common::{options, VOCAB};
use serde_json::{json, Value};
use switch_generation::{GenerationError, RowInput, Session, StepInput, StepModel};

const DRAWS: u64 = 200_000;

/// Scores with ties, near ties and a long tail.
fn scores() -> Vec<f32> {
    (0..VOCAB)
        .map(|token| [2.0, 1.875, 1.875, 1.25, 0.375, -0.25, -1.5, -4.0][token % 8] - (token / 8) as f32 * 0.6875)
        .collect()
}

/// Gives the same logits whatever is fed.
struct Constant(Vec<f32>);

impl StepModel for Constant {
    fn vocab_size(&self) -> usize {
        self.0.len()
    }
    fn step(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        logits.clear();
        inputs.iter().for_each(|_| logits.extend_from_slice(&self.0));
        Ok(())
    }
    fn reorder(&mut self, _: &[(usize, usize)]) -> Result<(), GenerationError> {
        Ok(())
    }
    fn release(&mut self, _: usize) {}
}

/// The sequences of one step from each seed.
fn draws(given: &Value, mut count: impl FnMut(&[Vec<u32>])) {
    let options = options(given);
    let mut model = Constant(scores());
    for seed in 0..DRAWS {
        let rows = vec![RowInput { encoder_ids: vec![5, 6], decoder_ids: vec![] }];
        let mut session = Session::new(options.clone(), VOCAB, rows, seed, 0.0).expect("a session");
        session.step(&mut model, 0.0).expect("a step");
        count(&session.finish().sequences);
    }
}

/// How often each token came first.
fn counts(given: &Value) -> Vec<u64> {
    let mut counts = vec![0; VOCAB];
    draws(given, |sequences| counts[sequences[0][1] as usize] += 1);
    counts
}

fn normalize(weights: &mut [f64]) {
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
}

/// Probabilities after warpers, in the order given, each in its plainest form.
fn expected(warpers: &[(&str, f64)]) -> Vec<f64> {
    let mut p: Vec<f64> = scores().iter().map(|score| f64::from(*score).exp()).collect();
    normalize(&mut p);
    for (name, x) in warpers {
        let before = p.clone();
        let entropy: f64 = before.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let top = before.iter().copied().fold(0.0, f64::max);
        let distance = |token: usize| (-before[token].ln() - entropy).abs();
        let mut descending: Vec<usize> = (0..p.len()).collect();
        descending.sort_by(|a, b| before[*b].total_cmp(&before[*a]).then(b.cmp(a)));
        let mut typical: Vec<usize> = (0..p.len()).collect();
        typical.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let until = |order: &[usize]| {
            let mut reached = 0.0;
            let n = order.iter().take_while(|token| {
                let more = reached < *x - 1e-12;
                reached += before[**token];
                more
            });
            n.count()
        };
        let keep: Box<dyn Fn(usize) -> bool> = match *name {
            "temperature" => {
                p.iter_mut().for_each(|p| *p = p.powf(1.0 / x));
                Box::new(|_| true)
            }
            "top_k" => {
                let least = before[descending[*x as usize - 1]];
                Box::new(move |token| before[token] >= least)
            }
            "top_p" => {
                let kept = descending[..until(&descending)].to_vec();
                Box::new(move |token| kept.contains(&token))
            }
            "typical_p" => {
                let limit = distance(typical[until(&typical) - 1]) + 1e-9;
                Box::new(move |token| distance(token) <= limit)
            }
            "min_p" => Box::new(move |token| before[token] >= x * top),
            "epsilon_cutoff" => Box::new(move |token| before[token] >= *x),
            "eta_cutoff" => {
                let eta = x.min(x.sqrt() * (-entropy).exp());
                Box::new(move |token| before[token] >= eta)
            }
            _ => unreachable!(),
        };
        (0..p.len()).filter(|token| !keep(*token)).collect::<Vec<_>>().into_iter().for_each(|token| p[token] = 0.0);
        normalize(&mut p);
    }
    p
}

/// Whether counts agree with probabilities: chi-squared below its 99.99 % quantile (Wilson and Hilferty's
/// approximation), and nothing counted that is impossible.
fn agrees(counts: &[u64], p: &[f64]) -> bool {
    let mut statistic = 0.0;
    let mut cells = 0;
    let mut rest = (0.0, 0.0);
    for (count, p) in counts.iter().zip(p) {
        let mean = p * DRAWS as f64;
        if mean == 0.0 && *count > 0 {
            return false;
        }
        if mean < 10.0 {
            rest = (rest.0 + *count as f64, rest.1 + mean);
        } else {
            statistic += (*count as f64 - mean).powi(2) / mean;
            cells += 1;
        }
    }
    if rest.1 >= 10.0 {
        statistic += (rest.0 - rest.1).powi(2) / rest.1;
        cells += 1;
    }
    let degrees = f64::from(cells - 1).max(1.0);
    let a = 2.0 / (9.0 * degrees);
    statistic < degrees * (1.0 - a + 3.719 * a.sqrt()).powi(3)
}

const WARPERS: [(&str, f64); 7] = [
    ("temperature", 1.7),
    ("top_k", 9.0),
    ("top_p", 0.8),
    ("min_p", 0.15),
    ("typical_p", 0.7),
    ("epsilon_cutoff", 0.03),
    ("eta_cutoff", 0.05),
];

fn given(warpers: &[(&str, f64)]) -> Value {
    let mut given = json!({ "do_sample": true, "top_k": 0, "eos_token_id": null });
    for (name, x) in warpers {
        given[*name] = if *name == "top_k" { json!(*x as u64) } else { json!(x) };
    }
    given
}

#[test]
fn every_warper_alone_gives_its_distribution() {
    assert!(agrees(&counts(&given(&[])), &expected(&[])));
    for warper in WARPERS {
        let counts = counts(&given(&[warper]));
        assert!(agrees(&counts, &expected(&[warper])), "{warper:?}: {counts:?}");
        // What another setting defines is told apart.
        assert!(!agrees(&counts, &expected(&[])), "{warper:?}");
    }
}

#[test]
fn combinations_act_in_the_reference_order_and_a_wrong_order_is_noticed() {
    let combinations: [&[(&str, f64)]; 5] = [
        &[("temperature", 0.6), ("top_p", 0.7)],
        &[("top_k", 5.0), ("top_p", 0.8)],
        &[("temperature", 1.8), ("min_p", 0.4)],
        &[("top_k", 6.0), ("typical_p", 0.6)],
        &[("temperature", 0.5), ("top_k", 10.0), ("top_p", 0.9), ("min_p", 0.1), ("eta_cutoff", 0.1)],
    ];
    for combination in combinations {
        let counts = counts(&given(combination));
        assert!(agrees(&counts, &expected(combination)), "{combination:?}: {counts:?}");
        let mut wrong = combination.to_vec();
        wrong.reverse();
        assert!(!agrees(&counts, &expected(&wrong)), "{combination:?} is not told from its reverse");
    }
}

#[test]
fn processors_before_warpers() {
    let counts = counts(&{
        let mut given = given(&[("top_p", 0.5)]);
        given["suppress_tokens"] = json!([0, 1, 2]);
        given
    });
    assert_eq!(counts[..3], [0, 0, 0]);
    let mut p: Vec<f64> = scores().iter().map(|score| f64::from(*score).exp()).collect();
    p[..3].fill(0.0);
    normalize(&mut p);
    let mut descending: Vec<usize> = (0..VOCAB).collect();
    descending.sort_by(|a, b| p[*b].total_cmp(&p[*a]).then(b.cmp(a)));
    let mut reached = 0.0;
    for token in descending {
        if reached >= 0.5 {
            p[token] = 0.0;
        }
        reached += p[token];
    }
    normalize(&mut p);
    assert!(agrees(&counts, &p), "{counts:?}");
}

/// Beam sampling draws without replacement, in the order drawn.
#[test]
fn beam_sampling_draws_pairs_by_their_probability() {
    let warpers = [("top_k", 6.0)];
    let mut given = given(&warpers);
    given
        .as_object_mut()
        .unwrap()
        .extend(json!({ "num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 1 }).as_object().unwrap().clone());
    let mut counts = vec![0_u64; VOCAB * VOCAB];
    draws(&given, |sequences| {
        let (a, b) = (sequences[0][1] as usize, sequences[1][1] as usize);
        counts[a.min(b) * VOCAB + a.max(b)] += 1;
    });
    let p = expected(&warpers);
    let pair = |place: usize| {
        let (a, b) = (p[place / VOCAB], p[place % VOCAB]);
        if place / VOCAB < place % VOCAB {
            a * b / (1.0 - a) + b * a / (1.0 - b)
        } else {
            0.0
        }
    };
    let pairs: Vec<f64> = (0..VOCAB * VOCAB).map(pair).collect();
    assert!(agrees(&counts, &pairs));
}

#[test]
fn sequences_of_a_row_and_steps_draw_independently() {
    let mut given = given(&[]);
    given.as_object_mut().unwrap().extend(json!({ "num_return_sequences": 2 }).as_object().unwrap().clone());
    let mut counts = vec![0_u64; VOCAB * VOCAB];
    draws(&given, |sequences| counts[sequences[0][1] as usize * VOCAB + sequences[1][1] as usize] += 1);
    let p = expected(&[]);
    let joint: Vec<f64> = (0..VOCAB * VOCAB).map(|place| p[place / VOCAB] * p[place % VOCAB]).collect();
    assert!(agrees(&counts, &joint));
}
