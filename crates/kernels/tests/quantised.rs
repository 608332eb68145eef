//! Quantised products against the reference, on each instruction set: int8 the same to the bit on all of them.

mod support;
use std::sync::Mutex;
use support::*;
use switch_kernels::quantised::{quantise_int4, quantise_int8};
use switch_kernels::{
    embedding, experts, feed_forward, linear, parallel, reference, Activation, ExpertWeights, KernelError, Matrix,
    Routes, Values,
};

/// Weights in int8 (`group` 0) or int4.
struct Quantised {
    rows: usize,
    cols: usize,
    group: usize,
    int8: Vec<i8>,
    int4: Vec<u8>,
    scales: Vec<f32>,
}

impl Quantised {
    fn of(wide: &[f32], rows: usize, cols: usize, group: usize) -> Self {
        let mut out = Self { rows, cols, group, int8: Vec::new(), int4: Vec::new(), scales: Vec::new() };
        if let Some(groups) = (rows * cols).checked_div(group) {
            out.int4 = vec![0; rows * cols / 2];
            out.scales = vec![0.0; groups];
            assert!(quantise_int4(wide, group, &mut out.int4, &mut out.scales).unwrap());
        } else {
            out.int8 = vec![0; rows * cols];
            out.scales = vec![0.0; rows];
            assert!(quantise_int8(wide, cols, &mut out.int8, &mut out.scales).unwrap());
        }
        out
    }

    fn random(random: &mut Random, rows: usize, cols: usize, group: usize) -> Self {
        Self::of(&random.vec(rows * cols), rows, cols, group)
    }

    fn matrix(&self) -> Matrix<'_> {
        let values = match self.group {
            0 => Values::I8 { values: &self.int8, scales: &self.scales },
            group => Values::I4 { values: &self.int4, scales: &self.scales, group },
        };
        Matrix::new(values, self.rows, self.cols).unwrap()
    }
}

const GROUPS: [usize; 4] = [0, 32, 64, 128];

#[test]
fn products_match_the_reference_and_int8_is_the_same_to_the_bit_on_every_instruction_set() {
    let shapes = [
        (1, 1, 1),
        (1, 7, 5),
        (2, 64, 33),
        (3, 96, 64),
        (4, 31, 96),
        (5, 40, 768),
        (9, 65, 160),
        (17, 12, 1025),
        (33, 50, 2048),
        (70, 70, 256),
        (17, 40, 64),
        (100, 33, 800),
        (130, 100, 1024),
    ];
    let first: Mutex<Vec<Vec<f32>>> = Mutex::default();
    each_isa(|isa| {
        let mut random = Random(1);
        let mut results = Vec::new();
        for (n, rows, cols) in shapes {
            for group in GROUPS {
                if group > 0 && cols % group > 0 {
                    continue;
                }
                let w = Quantised::random(&mut random, rows, cols, group);
                let x = random.vec(n * cols);
                let mut y = vec![f32::NAN; n * rows];
                linear(&x, n, w.matrix(), &mut y).unwrap();
                let expected = reference::quantised_linear(&x, n, w.matrix());
                assert_close(&y, &expected, 1e-6, &format!("{isa} group {group} {n}x{cols} by {rows}"));
                if group == 0 {
                    results.push(y);
                }
            }
        }
        let mut first = first.lock().unwrap();
        if first.is_empty() {
            *first = results;
        } else {
            assert!(*first == results, "{isa}");
        }
    });
}

#[test]
fn a_row_is_the_same_to_the_bit_whatever_stands_beside_it_and_however_many_threads_run() {
    each_isa(|isa| {
        let mut random = Random(2);
        for group in GROUPS {
            let w = Quantised::random(&mut random, 77, 768, group);
            let x = random.vec(101 * 768);
            let mut all = vec![0.0; 101 * 77];
            linear(&x, 101, w.matrix(), &mut all).unwrap();
            for n in [1, 2, 3, 4, 6, 8, 13, 33, 64, 81] {
                for threads in [1, 3] {
                    parallel::set_threads(threads);
                    let mut some = vec![0.0; n * 77];
                    linear(&x[..n * 768], n, w.matrix(), &mut some).unwrap();
                    assert_eq!(some, all[..n * 77], "{isa} group {group}, {n} of 101 rows, {threads} threads");
                }
                parallel::set_threads(0);
            }
        }
    });
}

/// Every weight and input at the end of its range: what saturating instructions would get wrong.
#[test]
fn extremes_do_not_saturate() {
    each_isa(|isa| {
        for cols in [32, 96, 1024, 4096] {
            let x: Vec<f32> = (0..cols).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
            for sign in [1i8, -1] {
                let values: Vec<i8> = (0..cols).map(|i| sign * if i % 3 == 0 { -127 } else { 127 }).collect();
                let w = Matrix::new(Values::I8 { values: &values, scales: &[1.0] }, 1, cols).unwrap();
                let mut y = [0.0];
                linear(&x, 1, w, &mut y).unwrap();
                let expected = f64::from(sign) * 127.0 * cols as f64;
                assert!((f64::from(y[0]) / expected - 1.0).abs() < 1e-6, "{isa} {cols}: {} is not {expected}", y[0]);
            }
            let values = vec![0xffu8; cols / 2];
            let scales = vec![1.0; cols / 32];
            let w = Matrix::new(Values::I4 { values: &values, scales: &scales, group: 32 }, 1, cols).unwrap();
            let mut y = [0.0];
            linear(&vec![1.0; cols], 1, w, &mut y).unwrap();
            assert!((y[0] / (7.0 * cols as f32) - 1.0).abs() < 1e-5, "{isa} {cols}: {}", y[0]);
            let mut y = [0.0; 40];
            let mut rows = [1.0f32; 32 * 40];
            rows[0] = f32::NAN;
            rows[32] = f32::INFINITY;
            let w = Matrix::new(Values::I4 { values: &[0; 16], scales: &[1.0], group: 32 }, 1, 32).unwrap();
            linear(&rows, 40, w, &mut y).unwrap();
            assert!(y[0].is_nan() && y[1].is_nan(), "{isa}: {y:?}");
            assert!(y[2..].iter().all(|y| (y + 256.0).abs() < 1e-3), "{isa}: {y:?}");
        }
    });
}

#[test]
fn tiny_and_zero_rows_give_zero() {
    each_isa(|isa| {
        for group in [0, 32] {
            let w = Quantised::random(&mut Random(5), 3, 64, group);
            let mut x = vec![0.0; 128];
            x[70] = 1e-40;
            let mut y = [f32::NAN; 6];
            linear(&x, 2, w.matrix(), &mut y).unwrap();
            assert_eq!(y, [0.0; 6], "{isa} group {group}");
        }
        let zero = Quantised::of(&[0.0; 64], 1, 64, 32);
        let mut y = [f32::NAN];
        linear(&[1.0; 64], 1, zero.matrix(), &mut y).unwrap();
        assert_eq!(y, [0.0], "{isa}");
    });
}

#[test]
fn quantising_rounds_to_the_nearest_step_and_refuses_what_is_not_finite() {
    let mut random = Random(7);
    let wide = random.vec(8 * 128);
    let deviation = |group| {
        let w = Quantised::of(&wide, 8, 128, group);
        relative_error(&reference::widen(w.matrix()), &wide)
    };
    assert!(deviation(0) < 0.005, "{}", deviation(0));
    assert!(deviation(32) < 0.08, "{}", deviation(32));
    assert!(deviation(32) < deviation(128));
    let w = Quantised::of(&[-2.0, 1.0, 0.0, 2.0], 2, 2, 0);
    assert_eq!((&w.int8[..], &w.scales[..]), (&[-127, 64, 0, 127][..], &[2.0 / 127.0, 2.0 / 127.0][..]));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut wide = [1.0; 32];
        wide[3] = bad;
        assert!(!quantise_int8(&wide, 32, &mut [0; 32], &mut [0.0]).unwrap());
        assert!(!quantise_int4(&wide, 32, &mut [0; 16], &mut [0.0]).unwrap());
    }
    assert!(quantise_int4(&[0.0; 33], 32, &mut [0; 16], &mut [0.0]).is_err());
    assert!(quantise_int4(&[0.0; 32], 16, &mut [0; 16], &mut [0.0; 2]).is_err());
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let int4 = |scales, group, cols| Matrix::new(Values::I4 { values: &[0; 32], scales, group }, 64 / cols, cols);
    assert!(int4(&[1.0; 2], 32, 64).is_ok());
    assert!(int4(&[1.0; 1], 32, 64).is_err());
    assert!(int4(&[1.0; 4], 16, 64).is_err());
    assert!(int4(&[1.0; 2], 32, 16).is_err());
    assert!(int4(&[1.0; 2], 0, 64).is_err());
    assert!(Matrix::new(Values::I8 { values: &[0; 6], scales: &[1.0; 3] }, 2, 3).is_err());
    let long = vec![0i8; 131_073];
    let error = Matrix::new(Values::I8 { values: &long, scales: &[1.0] }, 1, 131_073).unwrap_err();
    assert!(matches!(error, KernelError::Dimension { .. }));
    let slice = Quantised::random(&mut Random(1), 4, 64, 32);
    let rows = slice.matrix().rows_at(1, 2).unwrap();
    assert_eq!(reference::widen(rows), reference::widen(slice.matrix())[64..192]);
}

#[test]
fn embedding_and_feed_forward_take_quantised_weights_of_any_mixture() {
    each_isa(|isa| {
        let mut random = Random(3);
        let table = Quantised::random(&mut random, 10, 64, 32);
        let mut out = vec![0.0; 128];
        embedding(table.matrix(), &[9, 0], &mut out).unwrap();
        assert_eq!(out[..64], reference::widen(table.matrix())[576..]);
        for n in [1, 5, 40] {
            let x = random.vec(n * 64);
            let (wi, wi_1, wo) = (
                Quantised::random(&mut random, 96, 64, 0),
                Quantised::random(&mut random, 96, 64, 64),
                Quantised::random(&mut random, 64, 96, 32),
            );
            let weights = ExpertWeights { wi: wi.matrix(), wi_1: Some(wi_1.matrix()), wo: wo.matrix() };
            let mut y = vec![0.0; n * 64];
            feed_forward(&x, n, 64, &weights, Activation::Relu, &mut y).unwrap();
            let expected = reference::feed_forward(&x, n, &weights, Activation::Relu);
            assert_close(&y, &expected, 0.03, &format!("{isa} {n} rows"));
            // One expert quantised, one not, in one call.
            let wide = random.vec(96 * 64);
            let float = ExpertWeights {
                wi: Matrix::new(Values::F32(&wide), 96, 64).unwrap(),
                wi_1: Some(wi_1.matrix()),
                wo: Matrix::new(Values::F32(&wide), 64, 96).unwrap(),
            };
            let expert = (0..n as i32).map(|t| t % 3 - 1).collect();
            let routes = Routes { expert, weight: vec![0.5; n], slot: vec![0; n] };
            let all = [weights, float];
            experts(&x, n, 64, &routes, Activation::Relu, &|e| Ok(all[e]), &mut y).unwrap();
            let expected = reference::experts(&x, 64, &routes, Activation::Relu, &all);
            assert_close(&y, &expected, 0.03, &format!("{isa} {n} rows in experts"));
        }
    });
}
