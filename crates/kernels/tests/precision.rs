//! Products whose operands may be rounded to bfloat16: close to the reference, and exact for operands that fit.

mod support;
use support::*;
use switch_kernels::{
    attention_with, experts_with, linear_with, reference, Activation, AttentionRow, ExpertWeights, Precision, Routes,
};

const TOLERANCE: f64 = 6e-3;

#[test]
fn linear_in_bfloat16_is_as_close_as_bfloat16_is() {
    each_isa(|isa| {
        let mut random = Random(14);
        for store in STORES {
            for (n, rows, cols) in [(1, 40, 64), (20, 50, 96), (70, 65, 800), (130, 96, 768)] {
                let w = Weights::random(&mut random, store, rows, cols);
                let x = random.vec(n * cols);
                let mut y = vec![f32::NAN; n * rows];
                linear_with(Precision::Bfloat16, &x, n, w.matrix(), &mut y).unwrap();
                let what = format!("{isa} {store:?} {n}x{cols} by {rows}");
                assert_close(&y, &reference::linear(&x, n, w.matrix()), TOLERANCE, &what);
                // Inputs that bfloat16 holds lose nothing when the weights do not either.
                if store == Store::Bf16 {
                    let x: Vec<f32> = x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
                    linear_with(Precision::Bfloat16, &x, n, w.matrix(), &mut y).unwrap();
                    assert_close(&y, &reference::linear(&x, n, w.matrix()), 1e-6, &what);
                }
            }
        }
    });
}

#[test]
fn linear_with_inputs_of_16_bits_is_within_1e_5() {
    each_isa(|isa| {
        let mut random = Random(16);
        for store in STORES {
            for (n, rows, cols) in [(1, 40, 64), (6, 50, 96), (20, 50, 96), (70, 65, 800), (400, 96, 768)] {
                let w = Weights::random(&mut random, store, rows, cols);
                let x = random.vec(n * cols);
                let mut y = vec![f32::NAN; n * rows];
                linear_with(Precision::Reduced, &x, n, w.matrix(), &mut y).unwrap();
                let tolerance = if store == Store::Bf16 { 1e-5 } else { 1e-6 };
                let what = format!("{isa} {store:?} {n}x{cols} by {rows}");
                assert_close(&y, &reference::linear(&x, n, w.matrix()), tolerance, &what);
            }
        }
    });
}

#[test]
fn gates_stored_otherwise_than_what_they_gate() {
    each_isa(|isa| {
        let mut random = Random(17);
        let (n, d, d_ff) = (60, 64, 96);
        let wi = Weights::random(&mut random, Store::Bf16, d_ff, d);
        let wi_1 = Weights::random(&mut random, Store::F32, d_ff, d);
        let wo = Weights::random(&mut random, Store::Bf16, d, d_ff);
        let weights = [ExpertWeights { wi: wi.matrix(), wi_1: Some(wi_1.matrix()), wo: wo.matrix() }];
        let x = random.vec(n * d);
        let routes = Routes { expert: vec![0; n], slot: vec![0; n], weight: random.vec(n) };
        let mut out = vec![f32::NAN; n * d];
        let act = Activation::Silu;
        experts_with(Precision::Reduced, &x, n, d, &routes, act, &|_| Ok(weights[0]), &mut out).unwrap();
        assert_close(&out, &reference::experts(&x, d, &routes, act, &weights), 1e-5, isa);
    });
}

#[test]
fn experts_and_attention_in_bfloat16() {
    each_isa(|isa| {
        let mut random = Random(15);
        let (n, d, d_ff) = (200, 64, 96);
        let wi: Vec<_> = (0..2).map(|_| Weights::random(&mut random, Store::Bf16, d_ff, d)).collect();
        let wo: Vec<_> = (0..2).map(|_| Weights::random(&mut random, Store::F32, d, d_ff)).collect();
        let weights: Vec<_> =
            (0..2).map(|i| ExpertWeights { wi: wi[i].matrix(), wi_1: None, wo: wo[i].matrix() }).collect();
        let x = random.vec(n * d);
        let routes =
            Routes { expert: (0..n as i32).map(|t| t % 3 - 1).collect(), slot: vec![0; n], weight: random.vec(n) };
        let mut out = vec![f32::NAN; n * d];
        let act = Activation::Relu;
        experts_with(Precision::Bfloat16, &x, n, d, &routes, act, &|i| Ok(weights[i]), &mut out).unwrap();
        assert_close(&out, &reference::experts(&x, d, &routes, act, &weights), TOLERANCE, isa);

        let (q, k, v) = (random.vec(50 * 64), random.vec(70 * 64), random.vec(70 * 64));
        let row = AttentionRow {
            q: &q,
            k: &k,
            v: &v,
            q_len: 50,
            kv_len: 70,
            mask: None,
            causal_offset: Some(20),
            bias: None,
        };
        let mut out = vec![f32::NAN; 50 * 64];
        attention_with(Precision::Bfloat16, &[row], 2, 32, &mut [&mut out]).unwrap();
        assert_close(&out, &reference::attention(&row, 2, 32), TOLERANCE, isa);
    });
}
