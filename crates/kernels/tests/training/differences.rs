//! The slow backward passes against differences of the slow forwards.

use crate::support::Random;
use switch_kernels::training::reference::{self, Attention, FeedForward};
use switch_kernels::training::Dropout;
use switch_kernels::{Activation, AttentionRow, RelativeBias};

fn numbers(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n).map(|_| f64::from(random.unit())).collect()
}

/// Asserts that `gradient` is the slope of `loss` in each element of `x`.
#[track_caller]
fn assert_slope(what: &str, x: &[f64], gradient: &[f64], loss: &dyn Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{what}");
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        let mut at = |step: f64| {
            moved[i] = x[i] + step;
            let y = loss(&moved);
            moved[i] = x[i];
            y
        };
        let h = 1e-4;
        let expected = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        assert!(
            (gradient[i] - expected).abs() < 1e-7 * (1.0 + expected.abs()),
            "{what} {i}: {} {expected}",
            gradient[i]
        );
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn linear() {
    let mut random = Random(70);
    let (n, rows, cols) = (4, 3, 5);
    let (x, w, dy) = (numbers(&mut random, 20), numbers(&mut random, 15), numbers(&mut random, 12));
    let dx = reference::linear_backward_input(&dy, &w, n, rows, cols);
    assert_slope("dx", &x, &dx, &|x| dot(&dy, &reference::linear(x, &w, n, rows, cols)));
    let dw = reference::linear_backward_weight(&dy, &x, n, rows, cols);
    assert_slope("dw", &w, &dw, &|w| dot(&dy, &reference::linear(&x, w, n, rows, cols)));
}

#[test]
fn rms_norm() {
    let mut random = Random(71);
    let (x, w, dy) = (numbers(&mut random, 21), numbers(&mut random, 7), numbers(&mut random, 21));
    let (dx, dw) = reference::rms_norm_backward(&x, 7, &w, 1e-3, &dy);
    assert_slope("dx", &x, &dx, &|x| dot(&dy, &reference::rms_norm(x, 7, &w, 1e-3)));
    assert_slope("dweight", &w, &dw, &|w| dot(&dy, &reference::rms_norm(&x, 7, w, 1e-3)));
}

#[test]
fn feed_forward() {
    let mut random = Random(72);
    let (d, d_ff, tokens) = (3, 4, [0, 5, 9]);
    for (act, gated) in [(Activation::GeluTanh, true), (Activation::Silu, false), (Activation::Relu, true)] {
        let layer = FeedForward {
            d,
            d_ff,
            wi: numbers(&mut random, 12),
            wi_1: gated.then(|| numbers(&mut random, 12)),
            wo: numbers(&mut random, 12),
        };
        let (x, dy) = (numbers(&mut random, 9), numbers(&mut random, 9));
        let dropout = Dropout { rate: 0.3, seed: 1 };
        let back = layer.backward(&x, &tokens, act, &dropout, &dy);
        let loss = |layer: &FeedForward, x: &[f64]| dot(&dy, &layer.forward(x, &tokens, act, &dropout));
        assert_slope("dx", &x, &back.x, &|x| loss(&layer, x));
        assert_slope("wi", &layer.wi, &back.wi, &|w| loss(&FeedForward { wi: w.to_vec(), ..layer.clone() }, &x));
        assert_slope("wo", &layer.wo, &back.wo, &|w| loss(&FeedForward { wo: w.to_vec(), ..layer.clone() }, &x));
        if let (Some(wi_1), Some(gradient)) = (&layer.wi_1, &back.wi_1) {
            assert_slope("wi_1", wi_1, gradient, &|w| {
                loss(&FeedForward { wi_1: Some(w.to_vec()), ..layer.clone() }, &x)
            });
        }
    }
}

#[test]
fn attention() {
    let mut random = Random(73);
    let (heads, head_dim, q_len, kv_len) = (2, 3, 4, 4);
    let (q, k, v, values) = (random.vec(24), random.vec(24), random.vec(24), random.vec(18));
    let mask = [1, 0, 1, 1];
    for causal_offset in [None, Some(0)] {
        let row = AttentionRow {
            q: &q,
            k: &k,
            v: &v,
            q_len,
            kv_len,
            mask: Some(&mask),
            causal_offset,
            bias: Some(RelativeBias { values: &values, span: 9, zero: 4, q_start: 0 }),
        };
        let inputs = Attention::of(&row);
        let dout = numbers(&mut random, 24);
        let dropout = Dropout { rate: 0.2, seed: 4 };
        let back = inputs.backward(&row, heads, head_dim, &dropout, 5, &dout);
        let loss = |inputs: &Attention| dot(&dout, &inputs.forward(&row, heads, head_dim, &dropout, 5));
        assert_slope("dq", &inputs.q, &back.q, &|q| loss(&Attention { q: q.to_vec(), ..inputs.clone() }));
        assert_slope("dk", &inputs.k, &back.k, &|k| loss(&Attention { k: k.to_vec(), ..inputs.clone() }));
        assert_slope("dv", &inputs.v, &back.v, &|v| loss(&Attention { v: v.to_vec(), ..inputs.clone() }));
        assert_slope("dbias", &inputs.bias, &back.bias, &|bias| {
            loss(&Attention { bias: bias.to_vec(), ..inputs.clone() })
        });
    }
}
