use crate::each_thread_count;
use crate::support::*;
use switch_kernels::training::{linear_backward_input, linear_backward_weight, linear_train, reference};
use switch_kernels::{reference::widen, Precision};

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 5, 7),
    (1, 40, 33),
    (17, 33, 65),
    (64, 96, 64),
    (100, 128, 160),
    (130, 37, 200),
    (70, 800, 96),
    (700, 64, 96),
];

/// Of products summed in float32, and of those that AMX may round.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Float32 => 2e-6,
        Precision::High => 5e-6,
        Precision::Reduced | Precision::Bfloat16 => 8e-3,
    }
}

#[test]
fn input_gradients_match_the_reference() {
    each_isa(|isa| {
        let mut random = Random(30);
        for store in STORES {
            for (n, rows, cols) in SHAPES {
                for precision in [Precision::Float32, Precision::High, Precision::Bfloat16] {
                    let w = Weights::random(&mut random, store, rows, cols);
                    let dy = random.vec(n * rows);
                    let what = format!("{isa} {store:?} {precision:?} {n}x{rows} by {cols}");
                    let found = each_thread_count(&what, || {
                        let mut dx = vec![f32::NAN; n * cols];
                        linear_backward_input(precision, &dy, n, w.matrix(), &mut dx).unwrap();
                        vec![dx]
                    });
                    let wide = reference::widen(&widen(w.matrix()));
                    let expected = reference::linear_backward_input(&reference::widen(&dy), &wide, n, rows, cols);
                    assert_close(&found[0], &reference::narrow(&expected), tolerance(precision), &what);
                }
            }
        }
    });
}

#[test]
fn forwards_of_many_rows_match_the_reference() {
    each_isa(|isa| {
        let mut random = Random(35);
        for store in STORES {
            for (n, rows, cols) in SHAPES {
                for precision in [Precision::Float32, Precision::High, Precision::Bfloat16] {
                    let w = Weights::random(&mut random, store, rows, cols);
                    let x = random.vec(n * cols);
                    let what = format!("{isa} {store:?} {precision:?} {n}x{cols} to {rows}");
                    let found = each_thread_count(&what, || {
                        let mut y = vec![f32::NAN; n * rows];
                        linear_train(precision, &x, n, w.matrix(), &mut y).unwrap();
                        vec![y]
                    });
                    let tolerance = if precision == Precision::Bfloat16 { 8e-3 } else { 2e-6 };
                    assert_close(&found[0], &switch_kernels::reference::linear(&x, n, w.matrix()), tolerance, &what);
                }
            }
        }
    });
}

#[test]
fn weight_gradients_match_the_reference_and_are_added() {
    each_isa(|isa| {
        let mut random = Random(31);
        for (n, rows, cols) in SHAPES {
            for (precision, scale) in
                [(Precision::Float32, 1.0), (Precision::Float32, 0.37), (Precision::Bfloat16, 1.0)]
            {
                let (dy, x, before) = (random.vec(n * rows), random.vec(n * cols), random.vec(rows * cols));
                let what = format!("{isa} {precision:?} {n} of {rows}x{cols} times {scale}");
                let found = each_thread_count(&what, || {
                    let mut dw = before.clone();
                    linear_backward_weight(precision, &dy, &x, n, rows, cols, scale, &mut dw).unwrap();
                    vec![dw]
                });
                let mut expected =
                    reference::linear_backward_weight(&reference::widen(&dy), &reference::widen(&x), n, rows, cols);
                for (expected, before) in expected.iter_mut().zip(&before) {
                    *expected = *expected * f64::from(scale) + f64::from(*before);
                }
                assert_close(&found[0], &reference::narrow(&expected), tolerance(precision), &what);
            }
        }
    });
}

#[test]
fn nothing_comes_of_nothing() {
    let w = switch_kernels::Matrix::new(switch_kernels::Values::F32(&[]), 0, 3).unwrap();
    let mut dx = [f32::NAN; 6];
    linear_backward_input(Precision::Float32, &[], 2, w, &mut dx).unwrap();
    assert_eq!(dx, [0.0; 6]);
    let mut dw = [1.0; 6];
    linear_backward_weight(Precision::Float32, &[], &[], 0, 2, 3, 1.0, &mut dw).unwrap();
    assert_eq!(dw, [1.0; 6]);
}
