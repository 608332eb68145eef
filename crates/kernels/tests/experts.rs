//! Feed-forward layers, dense and routed, against the reference.

mod support;
use std::sync::Mutex;
use support::*;
use switch_kernels::{
    experts, feed_forward, feed_forward_with, parallel, reference, Activation, ExpertWeights, KernelError, Matrix,
    Precision, Routes, Values,
};

struct Bank {
    wi: Vec<Weights>,
    wi_1: Vec<Weights>,
    wo: Vec<Weights>,
}

impl Bank {
    fn random(random: &mut Random, store: Store, count: usize, d: usize, d_ff: usize) -> Self {
        let mut weights = |rows, cols| (0..count).map(|_| Weights::random(random, store, rows, cols)).collect();
        Self { wi: weights(d_ff, d), wi_1: weights(d_ff, d), wo: weights(d, d_ff) }
    }

    fn expert(&self, index: usize, gated: bool) -> ExpertWeights<'_> {
        ExpertWeights {
            wi: self.wi[index].matrix(),
            wi_1: gated.then(|| self.wi_1[index].matrix()),
            wo: self.wo[index].matrix(),
        }
    }
}

#[test]
fn feed_forward_matches_the_reference() {
    each_isa(|isa| {
        let mut random = Random(10);
        for store in STORES {
            // The last has rows for several tasks, and sums longer than what is added up at once.
            for (n, d, d_ff) in [(1, 16, 32), (5, 24, 100), (40, 64, 128), (100, 96, 160), (530, 800, 64)] {
                for (gated, act) in [(false, Activation::Relu), (false, Activation::Gelu), (true, Activation::GeluTanh)]
                {
                    let bank = Bank::random(&mut random, store, 1, d, d_ff);
                    let weights = bank.expert(0, gated);
                    let x = random.vec(n * d);
                    let mut out = vec![f32::NAN; n * d];
                    feed_forward(&x, n, d, &weights, act, &mut out).unwrap();
                    let expected = reference::feed_forward(&x, n, &weights, act);
                    assert_close(&out, &expected, 2e-6, &format!("{isa} {store:?} {n} {d} {d_ff} {gated}"));
                }
            }
        }
    });
}

#[test]
fn a_feed_forward_of_16_bits_is_within_1e_5() {
    each_isa(|isa| {
        let mut random = Random(14);
        for (n, d, d_ff) in [(17, 96, 160), (70, 832, 96)] {
            let bank = Bank::random(&mut random, Store::Bf16, 1, d, d_ff);
            let weights = bank.expert(0, false);
            let x = random.vec(n * d);
            let mut out = vec![f32::NAN; n * d];
            feed_forward_with(Precision::Reduced, &x, n, d, &weights, Activation::Relu, &mut out).unwrap();
            let expected = reference::feed_forward(&x, n, &weights, Activation::Relu);
            assert_close(&out, &expected, 1e-5, &format!("{isa} {n} {d} {d_ff}"));
        }
    });
}

fn routes(random: &mut Random, n: usize, choices: usize) -> Routes {
    let expert: Vec<i32> = (0..n).map(|_| random.below(choices + 1) as i32 - 1).collect();
    let weight = (0..n).map(|_| random.unit()).collect();
    Routes { slot: vec![0; n], weight, expert }
}

#[test]
fn experts_match_the_reference_for_any_share_of_tokens() {
    each_isa(|isa| {
        let mut random = Random(11);
        for store in STORES {
            for (n, d, d_ff, count, choices) in [
                (1, 16, 32, 4, 4),
                (50, 24, 40, 3, 3),
                (300, 32, 48, 8, 8),
                (300, 64, 96, 3, 3),
                (90, 16, 20, 40, 40),
                (90, 16, 20, 8, 1),
            ] {
                for gated in [false, true] {
                    let bank = Bank::random(&mut random, store, count, d, d_ff);
                    let weights: Vec<_> = (0..count).map(|i| bank.expert(i, gated)).collect();
                    let x = random.vec(n * d);
                    let routes = routes(&mut random, n, choices);
                    let expected = reference::experts(&x, d, &routes, Activation::Relu, &weights);
                    for threads in [1, 2, 5] {
                        parallel::set_threads(threads);
                        let mut out = vec![f32::NAN; n * d];
                        experts(&x, n, d, &routes, Activation::Relu, &|i| Ok(weights[i]), &mut out).unwrap();
                        assert_close(&out, &expected, 2e-6, &format!("{isa} {store:?} {n} tokens, {count} experts"));
                    }
                    parallel::set_threads(0);
                }
            }
        }
    });
}

#[test]
fn a_tokens_result_is_the_same_to_the_bit_alone_and_in_company() {
    each_isa(|isa| {
        let mut random = Random(12);
        let bank = Bank::random(&mut random, Store::Bf16, 3, 48, 96);
        let x = random.vec(60 * 48);
        let routes = Routes { expert: (0..60).map(|t| t % 3).collect(), slot: vec![0; 60], weight: random.vec(60) };
        let mut all = vec![0.0; 60 * 48];
        experts(&x, 60, 48, &routes, Activation::Gelu, &|i| Ok(bank.expert(i, true)), &mut all).unwrap();
        for token in 0..60 {
            let route =
                Routes { expert: vec![routes.expert[token]], slot: vec![0], weight: vec![routes.weight[token]] };
            let mut one = vec![0.0; 48];
            let x = &x[token * 48..][..48];
            experts(x, 1, 48, &route, Activation::Gelu, &|i| Ok(bank.expert(i, true)), &mut one).unwrap();
            let all = &all[token * 48..][..48];
            if isa == "amx" {
                assert_close(&one, all, 1e-6, "a token alone");
            } else {
                assert_eq!(one, all, "{isa} token {token}");
            }
        }
    });
}

#[test]
fn only_experts_with_tokens_are_asked_for_once_each() {
    let mut random = Random(13);
    let bank = Bank::random(&mut random, Store::F32, 8, 8, 16);
    let routes = Routes { expert: vec![5, -1, 2, 5, 5], slot: vec![0; 5], weight: vec![1.0; 5] };
    let asked = Mutex::new(Vec::new());
    let expert = |index: usize| {
        asked.lock().unwrap().push(index);
        Ok(bank.expert(index, false))
    };
    let mut out = vec![f32::NAN; 40];
    experts(&random.vec(40), 5, 8, &routes, Activation::Relu, &expert, &mut out).unwrap();
    let mut asked = asked.into_inner().unwrap();
    asked.sort_unstable();
    assert_eq!(asked, [2, 5]);
    assert_eq!(out[8..16], [0.0; 8]);
}

#[test]
fn faults_of_routes_and_weights_are_returned() {
    let x = [0.0; 4];
    let (wi, wo) = ([0.0; 6], [0.0; 6]);
    let weights = ExpertWeights {
        wi: Matrix::new(Values::F32(&wi), 3, 2).unwrap(),
        wi_1: None,
        wo: Matrix::new(Values::F32(&wo), 2, 3).unwrap(),
    };
    let run = |routes: &Routes, expert: &(dyn Fn(usize) -> Result<ExpertWeights<'static>, KernelError> + Sync)| {
        experts(&x, 2, 2, routes, Activation::Relu, expert, &mut [0.0; 4])
    };
    let fail = |index: usize| Err(KernelError::Weights { expert: index, reason: "gone".into() });
    let routes = Routes { expert: vec![0, 7], slot: vec![0; 2], weight: vec![1.0; 2] };
    let error = run(&routes, &fail).unwrap_err();
    assert!(matches!(error, KernelError::Weights { .. }), "{error}");
    let negative = Routes { expert: vec![0, -2], ..routes.clone() };
    assert_eq!(run(&negative, &fail).unwrap_err(), KernelError::Route { token: 1, expert: -2 });
    let short = Routes { weight: vec![1.0], ..routes.clone() };
    assert!(run(&short, &fail).is_err());
    let mut out = [0.0; 4];
    feed_forward(&x, 2, 2, &weights, Activation::Relu, &mut out).unwrap();
    let swapped = ExpertWeights { wi: weights.wo, wo: weights.wi, wi_1: None };
    assert!(feed_forward(&x, 2, 2, &swapped, Activation::Relu, &mut out).is_err());
    let gate = ExpertWeights { wi_1: Some(weights.wo), ..weights };
    assert!(feed_forward(&x, 2, 2, &gate, Activation::Relu, &mut out).is_err());
    assert!(feed_forward(&x, 1, 2, &weights, Activation::Relu, &mut out).is_err());
}
