use crate::each_thread_count;
use crate::support::*;
use switch_kernels::reference::widen;
use switch_kernels::training::{
    add, add_to, linears_backward_input, linears_backward_weight, linears_train, reference, WeightGradient,
};
use switch_kernels::{KernelError, Matrix, Precision};

const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (17, 33, 65), (64, 96, 64), (100, 128, 160), (70, 800, 96), (700, 64, 96)];
const F32: Precision = Precision::Float32;
const TOLERANCE: f64 = 5e-6;

fn matrices(weights: &[Weights]) -> Vec<Matrix<'_>> {
    weights.iter().map(Weights::matrix).collect()
}

#[test]
fn layers_together_are_what_each_is_alone() {
    each_isa(|isa| {
        let mut random = Random(60);
        for store in STORES {
            for (n, rows, cols) in SHAPES {
                for count in [1, 2, 3, 8] {
                    let weights: Vec<Weights> =
                        (0..count).map(|_| Weights::random(&mut random, store, rows, cols)).collect();
                    let x = random.vec(n * cols);
                    let what = format!("{isa} {store:?} {count} of {n}x{cols} to {rows}");
                    let found = each_thread_count(&what, || {
                        let mut results = vec![vec![f32::NAN; n * rows]; count];
                        let mut ys: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
                        linears_train(F32, &x, n, &matrices(&weights), &mut ys).unwrap();
                        results
                    });
                    for (weight, found) in weights.iter().zip(&found) {
                        let expected = switch_kernels::reference::linear(&x, n, weight.matrix());
                        assert_close(found, &expected, TOLERANCE, &what);
                    }
                }
            }
        }
    });
}

#[test]
fn their_inputs_gradient_is_the_sum() {
    each_isa(|isa| {
        let mut random = Random(61);
        for store in STORES {
            for (n, rows, cols) in SHAPES {
                let weights: Vec<Weights> = (0..3).map(|_| Weights::random(&mut random, store, rows, cols)).collect();
                let dys: Vec<Vec<f32>> = weights.iter().map(|_| random.vec(n * rows)).collect();
                let slices: Vec<&[f32]> = dys.iter().map(Vec::as_slice).collect();
                let what = format!("{isa} {store:?} {n}x{rows} by {cols}");
                let found = each_thread_count(&what, || {
                    let mut dx = vec![f32::NAN; n * cols];
                    linears_backward_input(F32, &slices, n, &matrices(&weights), &mut dx).unwrap();
                    vec![dx]
                });
                let mut expected = vec![0.0; n * cols];
                for (weight, dy) in weights.iter().zip(&dys) {
                    let wide = reference::widen(&widen(weight.matrix()));
                    let part = reference::linear_backward_input(&reference::widen(dy), &wide, n, rows, cols);
                    expected.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
                assert_close(&found[0], &reference::narrow(&expected), TOLERANCE, &what);
            }
        }
    });
}

#[test]
fn their_weights_gradients_are_added_or_written() {
    each_isa(|isa| {
        let mut random = Random(62);
        for (n, rows, cols) in SHAPES {
            let x = random.vec(n * cols);
            let dys: Vec<Vec<f32>> = (0..3).map(|_| random.vec(n * rows)).collect();
            let before = random.vec(rows * cols);
            let what = format!("{isa} {n} of {rows}x{cols}");
            let found = each_thread_count(&what, || {
                // The second is written in the place of what is no number.
                let mut dws = vec![before.clone(), vec![f32::NAN; rows * cols], before.clone()];
                let mut gradients: Vec<WeightGradient<'_>> = dys
                    .iter()
                    .zip(&mut dws)
                    .enumerate()
                    .map(|(i, (dy, dw))| WeightGradient { dy, dw, add: i != 1 })
                    .collect();
                linears_backward_weight(F32, &x, n, rows, cols, &mut gradients).unwrap();
                dws
            });
            for (i, (dy, found)) in dys.iter().zip(&found).enumerate() {
                let mut expected =
                    reference::linear_backward_weight(&reference::widen(dy), &reference::widen(&x), n, rows, cols);
                if i != 1 {
                    expected.iter_mut().zip(&before).for_each(|(sum, before)| *sum += f64::from(*before));
                }
                assert_close(found, &reference::narrow(&expected), TOLERANCE, &what);
            }
        }
    });
}

#[test]
fn shapes_that_do_not_match_are_refused() {
    let mut random = Random(63);
    let weights = [Weights::random(&mut random, STORES[0], 4, 3), Weights::random(&mut random, STORES[0], 4, 2)];
    let (x, mut a, mut b) = ([0.0; 6], [0.0; 8], [0.0; 8]);
    let refused = |result: Result<(), KernelError>| assert!(result.is_err());
    refused(linears_train(F32, &x, 2, &matrices(&weights), &mut [&mut a, &mut b]));
    refused(linears_train(F32, &x, 2, &matrices(&weights[..1]), &mut [&mut a, &mut b]));
    refused(linears_train(F32, &x, 3, &matrices(&weights[..1]), &mut [&mut a]));
    refused(linears_backward_input(F32, &[&a], 2, &matrices(&weights), &mut [0.0; 6]));
    refused(linears_backward_input(F32, &[&a], 2, &matrices(&weights[..1]), &mut [0.0; 5]));
    let mut gradients = [WeightGradient { dy: &a, dw: &mut b, add: false }];
    refused(linears_backward_weight(F32, &x, 2, 4, 3, &mut gradients));
    refused(add(&[0.0; 2], &[0.0; 3], &mut [0.0; 2]));
    refused(add(&[0.0; 2], &[0.0; 2], &mut [0.0; 3]));
    refused(add_to(&mut [0.0; 2], &[0.0; 3]));
}

#[test]
fn sums_are_sums() {
    let mut random = Random(64);
    for len in [0, 1, 31, 40_000] {
        let (a, b) = (random.vec(len), random.vec(len));
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let found = each_thread_count("sums", || {
            let (mut sum, mut to) = (vec![f32::NAN; len], a.clone());
            add(&a, &b, &mut sum).unwrap();
            add_to(&mut to, &b).unwrap();
            vec![sum, to]
        });
        assert!(found.iter().all(|found| *found == expected));
    }
}
