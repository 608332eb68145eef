//! Optimiser steps against the reference's (`test/fixtures/training/make_optimisers.py`), and what clipping needs.

use crate::each_thread_count;
use crate::support::*;
use serde_json::Value;
use switch_kernels::training::{
    adafactor_step, adamw_step, all_finite, scale, sum_of_squares, Adafactor, AdafactorState, AdamW,
};

fn cases(of: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/fixtures/training/optimisers.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[of].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// How far a parameter has moved, so that an error in small steps shows.
fn moved(after: &[f32], start: &[f32]) -> Vec<f32> {
    after.iter().zip(start).map(|(after, start)| after - start).collect()
}

#[test]
fn adamw_follows_torch() {
    each_isa(|isa| {
        for case in cases("adamw") {
            let (options, start) = (&case["options"], numbers(&case["start"]));
            let number = |value: &Value| value.as_f64().unwrap();
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; start.len()], vec![0.0; start.len()]);
            for step in 0..case["after"].as_array().unwrap().len() {
                let gradient_scale = 0.5;
                let g: Vec<f32> = numbers(&case["gradients"][step]).iter().map(|g| g / gradient_scale).collect();
                let options = AdamW {
                    learning_rate: number(&options["lr"]),
                    beta1: number(&options["betas"][0]),
                    beta2: number(&options["betas"][1]),
                    eps: number(&options["eps"]),
                    weight_decay: number(&options["weight_decay"]),
                    step: step as u64 + 1,
                    gradient_scale,
                };
                adamw_step(&mut p, &g, &mut m, &mut v, &options).unwrap();
                let expected = numbers(&case["after"][step]);
                assert_close(&moved(&p, &start), &moved(&expected, &start), 2e-5, &format!("{isa} step {step}"));
            }
        }
    });
}

#[test]
fn adafactor_follows_transformers() {
    each_isa(|isa| {
        for case in cases("adafactor") {
            let (options, start) = (&case["options"], numbers(&case["start"]));
            let shape: Vec<usize> =
                case["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            let (rows, cols, factored) = match shape[..] {
                [rows, cols] => (rows, cols, true),
                [cols] => (1, cols, false),
                _ => panic!("{shape:?}"),
            };
            let number = |name: &str, default: f64| options[name].as_f64().unwrap_or(default);
            let standard = Adafactor::default();
            let gradient_scale = 4.0;
            let adafactor = Adafactor {
                learning_rate: options["lr"].as_f64(),
                eps1: options["eps"][0].as_f64().unwrap_or(standard.eps1),
                eps2: options["eps"][1].as_f64().unwrap_or(standard.eps2),
                clip_threshold: number("clip_threshold", standard.clip_threshold),
                decay_rate: number("decay_rate", standard.decay_rate),
                beta1: options["beta1"].as_f64(),
                weight_decay: number("weight_decay", standard.weight_decay),
                scale_parameter: options["scale_parameter"].as_bool().unwrap_or(standard.scale_parameter),
                warmup_init: options["warmup_init"].as_bool().unwrap_or(standard.warmup_init),
                gradient_scale,
            };
            let (mut p, mut state) = (start.clone(), AdafactorState::default());
            for step in 0..case["after"].as_array().unwrap().len() {
                let g: Vec<f32> = numbers(&case["gradients"][step]).iter().map(|g| g / gradient_scale).collect();
                adafactor_step(&mut p, rows, cols, factored, &g, &mut state, &adafactor).unwrap();
                let expected = numbers(&case["after"][step]);
                let what = format!("{isa} {options} step {step}");
                // With warm-up the first steps are as small as a float32's last places.
                let tolerance = if adafactor.warmup_init { 2e-2 } else { 2e-5 };
                assert_close(&moved(&p, &start), &moved(&expected, &start), tolerance, &what);
                assert_close(&p, &expected, 1e-6, &what);
            }
            assert_eq!(state.step as usize, case["after"].as_array().unwrap().len());
        }
    });
}

#[test]
fn steps_of_large_parameters_do_not_depend_on_threads() {
    each_isa(|isa| {
        let mut random = Random(80);
        let (rows, cols) = (301, 257);
        let (p, g) = (random.vec(rows * cols), random.vec(rows * cols));
        for (factored, beta1) in [(true, None), (true, Some(0.9)), (false, None), (false, Some(0.9))] {
            each_thread_count(&format!("{isa} adafactor"), || {
                let (mut p, mut state) = (p.clone(), AdafactorState::default());
                let options = Adafactor { beta1, weight_decay: 0.01, ..Adafactor::default() };
                for _ in 0..3 {
                    adafactor_step(&mut p, rows, cols, factored, &g, &mut state, &options).unwrap();
                }
                vec![p, state.row, state.col, state.full, state.m]
            });
        }
        each_thread_count(&format!("{isa} adamw"), || {
            let (mut p, mut m, mut v) = (p.clone(), vec![0.0; p.len()], vec![0.0; p.len()]);
            let options = AdamW {
                learning_rate: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                step: 1,
                gradient_scale: 1.0,
            };
            adamw_step(&mut p, &g, &mut m, &mut v, &options).unwrap();
            vec![p, m, v]
        });
    });
}

#[test]
fn sums_checks_and_scales_see_every_element() {
    each_isa(|isa| {
        let mut random = Random(81);
        for n in [0, 1, 15, 17, 8192, 100_003] {
            let mut x = random.vec(n);
            let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let found = each_thread_count("sum", || {
                let sum = sum_of_squares(&x);
                assert!((sum - expected).abs() <= 1e-12 * expected, "{isa} {n}: {sum} {expected}");
                vec![vec![sum as f32]]
            });
            assert_eq!(found.len(), 1);
            assert!(all_finite(&x));
            let before = x.clone();
            scale(&mut x, 3.0);
            assert!(x.iter().zip(&before).all(|(x, before)| *x == before * 3.0));
            for place in [0, n / 2, n.saturating_sub(1)] {
                for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    if place < n {
                        let kept = std::mem::replace(&mut x[place], broken);
                        assert!(!all_finite(&x), "{isa} {n} {place} {broken}");
                        x[place] = kept;
                    }
                }
            }
        }
        assert!(all_finite(&[f32::MAX; 40]));
        assert_eq!(sum_of_squares(&[f32::MAX]), f64::from(f32::MAX).powi(2));
    });
}
