//! `linear` and `embedding` against the reference, for each storage type and instruction set.

mod support;
use support::*;
use switch_kernels::{embedding, linear, linear_together, parallel, reference, KernelError, Matrix, Precision, Values};

#[test]
fn linear_matches_the_reference_on_every_shape() {
    let shapes = [
        (1, 1, 1),
        (1, 7, 5),
        (2, 64, 33),
        (3, 96, 64),
        (4, 31, 100),
        (5, 40, 768),
        (9, 65, 130),
        (17, 12, 1025),
        (33, 50, 2048),
        (70, 19, 257),
        (17, 40, 64),
        (33, 64, 768),
        (64, 96, 96),
        (70, 50, 2048),
        (100, 33, 800),
        (300, 70, 1600),
    ];
    each_isa(|isa| {
        let mut random = Random(1);
        for (n, rows, cols) in shapes {
            for store in STORES {
                let w = Weights::random(&mut random, store, rows, cols);
                let x = random.vec(n * cols);
                let mut y = vec![f32::NAN; n * rows];
                linear(&x, n, w.matrix(), &mut y).unwrap();
                let expected = reference::linear(&x, n, w.matrix());
                assert_close(&y, &expected, 1e-6, &format!("{isa} {store:?} {n}x{cols} by {rows}"));
            }
        }
    });
}

#[test]
fn weights_multiplied_together_give_what_each_gives_alone() {
    each_isa(|isa| {
        let mut random = Random(3);
        for store in STORES {
            for (n, rows, cols) in [(1, 40, 96), (7, 96, 64), (70, 33, 96)] {
                let ws: Vec<Weights> = (0..3).map(|_| Weights::random(&mut random, store, rows, cols)).collect();
                let x = random.vec(n * cols);
                let matrices: Vec<Matrix<'_>> = ws.iter().map(Weights::matrix).collect();
                let mut all = vec![f32::NAN; 3 * n * rows];
                linear_together(Precision::Float32, &x, n, &matrices, &mut all).unwrap();
                for (matrix, all) in matrices.iter().zip(all.chunks_exact(n * rows)) {
                    let mut alone = vec![0.0; n * rows];
                    linear(&x, n, *matrix, &mut alone).unwrap();
                    assert_eq!(all, alone, "{isa} {store:?} {n}x{cols} by {rows}");
                }
            }
        }
    });
    let (x, w) = ([1.0; 4], [1.0; 8]);
    let (one, other) = (Matrix::new(Values::F32(&w), 2, 4).unwrap(), Matrix::new(Values::F32(&w), 4, 2).unwrap());
    let mut y = [0.0; 4];
    let refused = linear_together(Precision::Float32, &x, 1, &[one, other], &mut y);
    assert!(matches!(refused, Err(KernelError::Shape { .. })), "{refused:?}");
    assert!(linear_together(Precision::Float32, &x, 1, &[one], &mut y).is_err());
    linear_together(Precision::Float32, &x, 1, &[], &mut []).unwrap();
}

#[test]
fn a_row_is_the_same_to_the_bit_whatever_stands_beside_it_and_however_many_threads_run() {
    // With AMX, products of many rows and of few are rounded differently.
    let compare = |isa: &str, n: usize, some: &[f32], all: &[f32], what: &str| {
        if isa == "amx" && n < 64 {
            assert_close(some, all, 1e-6, what);
        } else {
            assert_eq!(some, all, "{what}");
        }
    };
    each_isa(|isa| {
        let mut random = Random(2);
        for store in STORES {
            for cols in [60, 768, 2100] {
                let w = Weights::random(&mut random, store, 77, cols);
                let x = random.vec(101 * cols);
                let mut all = vec![0.0; 101 * 77];
                linear(&x, 101, w.matrix(), &mut all).unwrap();
                for n in [1, 2, 3, 4, 6, 8, 13, 64, 81] {
                    for threads in [1, 3] {
                        parallel::set_threads(threads);
                        let mut some = vec![0.0; n * 77];
                        linear(&x[..n * cols], n, w.matrix(), &mut some).unwrap();
                        let what = format!("{isa} {store:?} {n} of 101 rows, {threads} threads");
                        compare(isa, n, &some, &all[..n * 77], &what);
                    }
                    parallel::set_threads(0);
                }
            }
        }
    });
}

#[test]
fn not_a_number_and_infinity_in_weights_reach_only_their_own_output() {
    each_isa(|isa| {
        for store in STORES {
            let bits = |x: f32| match store {
                Store::F16 => half::f16::from_f32(x).to_bits(),
                _ => half::bf16::from_f32(x).to_bits(),
            };
            let wide: Vec<f32> = vec![1.0, 2.0, f32::NAN, 1.0, f32::INFINITY, 1.0];
            let narrow: Vec<u16> = wide.iter().copied().map(bits).collect();
            let values = match store {
                Store::F32 => Values::F32(&wide),
                Store::F16 => Values::F16(&narrow),
                Store::Bf16 => Values::Bf16(&narrow),
            };
            let mut y = [0.0; 3];
            linear(&[1.0, 1.0], 1, Matrix::new(values, 3, 2).unwrap(), &mut y).unwrap();
            assert_eq!(y[0], 3.0, "{isa}");
            assert!(y[1].is_nan(), "{isa}");
            assert_eq!(y[2], f32::INFINITY, "{isa}");
        }
    });
}

#[test]
fn halves_widen_exactly_for_every_bit_pattern() {
    each_isa(|isa| {
        let every: Vec<u16> = (0..=u16::MAX).collect();
        for store in [Store::F16, Store::Bf16] {
            let (values, wide): (_, Vec<f32>) = match store {
                Store::F16 => (Values::F16(&every), every.iter().map(|&b| half::f16::from_bits(b).to_f32()).collect()),
                _ => (Values::Bf16(&every), every.iter().map(|&b| half::bf16::from_bits(b).to_f32()).collect()),
            };
            let mut y = vec![0.0; every.len()];
            linear(&[1.0], 1, Matrix::new(values, every.len(), 1).unwrap(), &mut y).unwrap();
            for (bits, (y, wide)) in every.iter().zip(y.iter().zip(&wide)) {
                assert!(y == wide || (y.is_nan() && wide.is_nan()), "{isa} {store:?} {bits:#06x}: {y} is not {wide}");
            }
        }
    });
}

#[test]
fn empty_shapes_give_empty_or_zero_results() {
    each_isa(|_| {
        linear(&[], 0, Matrix::new(Values::F32(&[1.0, 2.0]), 1, 2).unwrap(), &mut []).unwrap();
        linear(&[1.0; 4], 2, Matrix::new(Values::F32(&[]), 0, 2).unwrap(), &mut []).unwrap();
        let mut y = [5.0; 6];
        linear(&[], 2, Matrix::new(Values::Bf16(&[]), 3, 0).unwrap(), &mut y).unwrap();
        assert_eq!(y, [0.0; 6]);
    });
}

#[test]
fn wrong_lengths_are_refused_with_what_was_found_and_expected() {
    let w = Matrix::new(Values::F32(&[0.0; 6]), 2, 3).unwrap();
    let error = linear(&[0.0; 5], 2, w, &mut [0.0; 4]).unwrap_err();
    assert_eq!(error, KernelError::Shape { what: "linear input elements", expected: 6, found: 5 });
    assert_eq!(error.code(), "INVALID_INPUT");
    assert_eq!(error.to_string(), "linear input elements: found 5, expected 6");
    assert!(linear(&[0.0; 6], 2, w, &mut [0.0; 3]).is_err());
    assert!(Matrix::new(Values::F32(&[0.0; 6]), 2, 4).is_err());
    let lying = Matrix { rows: usize::MAX, ..w };
    assert_eq!(linear(&[0.0; 6], 2, lying, &mut [0.0; 3]).unwrap_err().code(), "OUT_OF_MEMORY");
    assert!(w.rows_at(1, 2).is_err());
    assert_eq!(w.rows_at(1, 1).unwrap().rows, 1);
}

#[test]
fn embedding_widens_the_rows_asked_for() {
    let mut random = Random(3);
    for store in STORES {
        let table = Weights::random(&mut random, store, 10, 7);
        let wide = reference::widen(table.matrix());
        let mut out = vec![0.0; 21];
        embedding(table.matrix(), &[9, 0, 9], &mut out).unwrap();
        assert_eq!(out[..7], wide[63..]);
        assert_eq!(out[7..14], wide[..7]);
        assert_eq!(out[14..], wide[63..]);
        let error = embedding(table.matrix(), &[1, 10, 2], &mut out).unwrap_err();
        assert_eq!(error, KernelError::IdOutOfRange { id: 10, position: 1, rows: 10 });
        assert!(embedding(table.matrix(), &[1], &mut out).is_err());
    }
}
