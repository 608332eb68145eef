use crate::each_thread_count;
use crate::support::*;
use std::sync::Mutex;
use switch_kernels::training::reference::{self, narrow, FeedForward, FeedForwardGradients};
use switch_kernels::training::{
    experts_backward, experts_train, feed_forward_backward, feed_forward_train, linear_backward_weight, Dropout,
    FeedForwardPart,
};
use switch_kernels::{Activation, ExpertWeights, KernelError, Precision, Routes};

const ALL: [Activation; 16] = [
    Activation::Relu,
    Activation::Relu2,
    Activation::Relu6,
    Activation::LeakyRelu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Gelu10,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::HardSwish,
    Activation::Mish,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Laplace,
    Activation::SqrtSoftplus,
    Activation::Identity,
];

struct Layer {
    wi: Weights,
    wi_1: Option<Weights>,
    wo: Weights,
    slow: FeedForward,
}

impl Layer {
    fn random(random: &mut Random, d: usize, d_ff: usize, gated: bool) -> Self {
        let wi = Weights::random(random, Store::F32, d_ff, d);
        let wi_1 = gated.then(|| Weights::random(random, Store::F32, d_ff, d));
        let wo = Weights::random(random, Store::F32, d, d_ff);
        let wide = |w: &Weights| reference::widen(&switch_kernels::reference::widen(w.matrix()));
        let slow = FeedForward { d, d_ff, wi: wide(&wi), wi_1: wi_1.as_ref().map(wide), wo: wide(&wo) };
        Self { wi, wi_1, wo, slow }
    }

    fn weights(&self) -> ExpertWeights<'_> {
        ExpertWeights { wi: self.wi.matrix(), wi_1: self.wi_1.as_ref().map(Weights::matrix), wo: self.wo.matrix() }
    }
}

/// Gradients of one layer's matrices: wi, wi_1 (empty without a gate), wo.
struct Sums([Vec<f32>; 3]);

impl Sums {
    fn new(d: usize, d_ff: usize, gated: bool) -> Self {
        Self([vec![0.0; d * d_ff], vec![0.0; if gated { d * d_ff } else { 0 }], vec![0.0; d * d_ff]])
    }

    fn add(&mut self, part: FeedForwardPart, dy: &[f32], x: &[f32], m: usize) -> Result<(), KernelError> {
        let to = &mut self.0[part as usize];
        linear_backward_weight(Precision::Float32, dy, x, m, dy.len() / m, x.len() / m, 1.0, to)
    }

    fn assert_close(&self, expected: &FeedForwardGradients, what: &str) {
        assert_close(&self.0[0], &narrow(&expected.wi), TOLERANCE, &format!("{what} wi"));
        assert_close(&self.0[2], &narrow(&expected.wo), TOLERANCE, &format!("{what} wo"));
        if let Some(wi_1) = &expected.wi_1 {
            assert_close(&self.0[1], &narrow(wi_1), TOLERANCE, &format!("{what} wi_1"));
        }
    }
}

const TOLERANCE: f64 = 4e-6;

#[test]
fn the_dense_layer_matches_the_reference_both_ways() {
    each_isa(|isa| {
        let mut random = Random(40);
        for (index, act) in ALL.into_iter().enumerate() {
            for gated in [false, true] {
                let (n, d, d_ff) = [(1, 3, 5), (9, 16, 33), (50, 64, 96), (130, 32, 64)][index % 4];
                let layer = Layer::random(&mut random, d, d_ff, gated);
                let (x, dy) = (random.vec(n * d), random.vec(n * d));
                let dropout = [Dropout::NONE, Dropout { rate: 0.2, seed: 5 }][index / 4 % 2];
                let what = format!("{isa} {act:?} gated {gated}, {n} of {d} by {d_ff}, {dropout:?}");
                let found = each_thread_count(&what, || {
                    let (mut hidden, mut out, mut dx) = (vec![1.0; 7], vec![f32::NAN; n * d], vec![f32::NAN; n * d]);
                    let precision = Precision::Float32;
                    let weights = layer.weights();
                    feed_forward_train(precision, &x, n, d, &weights, act, &dropout, &mut hidden, &mut out).unwrap();
                    let mut sums = Sums::new(d, d_ff, gated);
                    let mut sink = |part, dy: &[f32], x: &[f32], m| sums.add(part, dy, x, m);
                    let dx_wanted = Some(&mut dx[..]);
                    feed_forward_backward(
                        precision, &x, n, d, &weights, act, &dropout, &hidden, &dy, dx_wanted, &mut sink,
                    )
                    .unwrap();
                    let Sums([wi, wi_1, wo]) = sums;
                    vec![out, dx, wi, wi_1, wo]
                });
                let tokens: Vec<usize> = (0..n).collect();
                let wide = reference::widen;
                let forward = layer.slow.forward(&wide(&x), &tokens, act, &dropout);
                let back = layer.slow.backward(&wide(&x), &tokens, act, &dropout, &wide(&dy));
                assert_close(&found[0], &narrow(&forward), TOLERANCE, &format!("{what} out"));
                assert_close(&found[1], &narrow(&back.x), TOLERANCE, &format!("{what} dx"));
                Sums([found[2].clone(), found[3].clone(), found[4].clone()]).assert_close(&back, &what);
            }
        }
    });
}

#[test]
fn experts_match_the_reference_both_ways() {
    each_isa(|isa| {
        let mut random = Random(41);
        for (n, d, d_ff, count, gated, act, rate) in [
            (1, 4, 8, 2, false, Activation::Relu, 0.0),
            (60, 16, 24, 5, true, Activation::GeluTanh, 0.4),
            (200, 32, 64, 3, false, Activation::Relu, 0.4),
            (150, 64, 96, 2, true, Activation::Silu, 0.0),
            (40, 8, 8, 60, false, Activation::Gelu, 0.1),
        ] {
            let layers: Vec<Layer> = (0..count).map(|_| Layer::random(&mut random, d, d_ff, gated)).collect();
            let (x, dy) = (random.vec(n * d), random.vec(n * d));
            let mut weight: Vec<f32> = (0..n).map(|_| (random.unit() + 1.0) / 2.0).collect();
            let expert: Vec<i32> = (0..n).map(|_| random.below(count + 1) as i32 - 1).collect();
            weight[0] = 0.0; // A gate of 0 has a gradient too.
            let routes = Routes { slot: vec![0; n], weight, expert };
            let dropout = Dropout { rate, seed: 11 };
            let what = format!("{isa} {n} tokens, {count} experts");
            let precision = Precision::Float32;
            let found = each_thread_count(&what, || {
                let bank = |index: usize| Ok(layers[index].weights());
                let sums: Vec<Mutex<Sums>> = (0..count).map(|_| Mutex::new(Sums::new(d, d_ff, gated))).collect();
                let (mut hidden, mut out) = (Vec::new(), vec![f32::NAN; n * d]);
                experts_train(precision, &x, n, d, &routes, act, &dropout, &bank, &mut hidden, &mut out).unwrap();
                let (mut dx, mut dgate) = (vec![f32::NAN; n * d], vec![f32::NAN; n]);
                let sink =
                    |index: usize, part, dy: &[f32], x: &[f32], m| sums[index].lock().unwrap().add(part, dy, x, m);
                experts_backward(
                    precision, &x, n, d, &routes, act, &dropout, &bank, &hidden, &dy, &mut dx, &mut dgate, &sink,
                )
                .unwrap();
                let mut all = vec![out, dx, dgate];
                all.extend(sums.into_iter().flat_map(|sums| sums.into_inner().unwrap().0));
                all
            });
            let (mut out, mut dx, mut dgate) = (vec![0.0; n * d], vec![0.0; n * d], vec![0.0; n]);
            for (index, layer) in layers.iter().enumerate() {
                let tokens: Vec<usize> = (0..n).filter(|&t| routes.expert[t] == index as i32).collect();
                let rows = |from: &[f32]| -> Vec<f64> {
                    tokens.iter().flat_map(|&t| reference::widen(&from[t * d..(t + 1) * d])).collect()
                };
                let (own, own_dy) = (rows(&x), rows(&dy));
                let y = layer.slow.forward(&own, &tokens, act, &dropout);
                let gated_dy: Vec<f64> =
                    own_dy.iter().enumerate().map(|(i, dy)| dy * f64::from(routes.weight[tokens[i / d]])).collect();
                let back = layer.slow.backward(&own, &tokens, act, &dropout, &gated_dy);
                for (row, &t) in tokens.iter().enumerate() {
                    let row = row * d..(row + 1) * d;
                    dgate[t] = y[row.clone()].iter().zip(&own_dy[row.clone()]).map(|(y, dy)| y * dy).sum();
                    dx[t * d..(t + 1) * d].copy_from_slice(&back.x[row.clone()]);
                    for (out, y) in out[t * d..(t + 1) * d].iter_mut().zip(&y[row]) {
                        *out = y * f64::from(routes.weight[t]);
                    }
                }
                let at = 3 + 3 * index;
                let sums = Sums([found[at].clone(), found[at + 1].clone(), found[at + 2].clone()]);
                sums.assert_close(&back, &format!("{what}, expert {index}"));
            }
            assert_close(&found[0], &narrow(&out), TOLERANCE, &format!("{what} out"));
            assert_close(&found[1], &narrow(&dx), TOLERANCE, &format!("{what} dx"));
            assert_close(&found[2], &narrow(&dgate), TOLERANCE, &format!("{what} dgate"));
        }
    });
}

#[test]
fn a_sinks_error_is_returned_and_the_input_gradient_may_be_left_out() {
    let mut random = Random(42);
    let layer = Layer::random(&mut random, 4, 6, false);
    let weights = layer.weights();
    let (x, dy, none) = (random.vec(8), random.vec(8), Dropout::NONE);
    let (mut hidden, mut out) = (Vec::new(), vec![0.0; 8]);
    let (precision, act) = (Precision::Float32, Activation::Relu);
    feed_forward_train(precision, &x, 2, 4, &weights, act, &none, &mut hidden, &mut out).unwrap();
    let mut parts = Vec::new();
    let mut sink = |part, _: &[f32], _: &[f32], _| {
        parts.push(part);
        Ok(())
    };
    feed_forward_backward(precision, &x, 2, 4, &weights, act, &none, &hidden, &dy, None, &mut sink).unwrap();
    assert_eq!(parts, [FeedForwardPart::Wo, FeedForwardPart::Wi]);
    let fault = KernelError::TooLarge { what: "sink" };
    let mut sink = |_, _: &[f32], _: &[f32], _| Err(fault.clone());
    let found = feed_forward_backward(precision, &x, 2, 4, &weights, act, &none, &hidden, &dy, None, &mut sink);
    assert_eq!(found.unwrap_err(), fault);
}
