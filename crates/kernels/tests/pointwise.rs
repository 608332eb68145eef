//! Norm, softmax and activations against the reference.

mod support;
use support::*;
use switch_kernels::{activate, reference, rms_norm, softmax_rows, Activation, KernelError};

/// Every name of the reference's table that has no parameters.
const NAMES: [&str; 22] = [
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_python_tanh",
    "gelu_accurate",
    "hardswish",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
];

#[test]
fn activations_match_the_reference_over_their_whole_range() {
    let inputs: Vec<f32> =
        (-3000..=3000).map(|i| i as f32 / 100.0).chain([1e-30, -1e-8, 3e-4, 88.0, -104.0, 1e9, -1e9]).collect();
    each_isa(|isa| {
        for name in NAMES {
            let act = Activation::parse(name).unwrap();
            let mut found = inputs.clone();
            activate(act, &mut found);
            for (&x, y) in inputs.iter().zip(found) {
                let expected = reference::activation(act, x);
                // The tails of GELU and Laplace are differences of near-equal numbers, in the reference's float32 as well.
                let scale = if act == Activation::Laplace { 1.0 } else { f64::from(x.abs().min(6.0)) };
                let tolerance = 4e-7 * f64::from(expected.abs()) + 1.5e-7 * scale + 1e-37;
                let error = f64::from((y - expected).abs());
                assert!(error <= tolerance, "{isa} {name}({x}) = {y}, expected {expected}");
            }
        }
    });
}

#[test]
fn activations_keep_not_a_number_and_take_infinity() {
    each_isa(|isa| {
        for name in NAMES {
            let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            activate(Activation::parse(name).unwrap(), &mut x);
            assert!(x[0].is_nan(), "{isa} {name}(NaN) = {}", x[0]);
            assert!(!x[1].is_nan(), "{isa} {name}(inf) = {}", x[1]);
        }
    });
}

#[test]
fn unknown_and_parametrised_names_are_not_parsed() {
    for name in ["prelu", "xielu", "", "ReLU", "gated-gelu"] {
        assert_eq!(Activation::parse(name), None);
    }
}

#[test]
fn rms_norm_matches_the_reference() {
    each_isa(|isa| {
        let mut random = Random(4);
        for (rows, d) in [(1, 1), (3, 7), (5, 64), (33, 768), (2, 1000)] {
            let (x, weight) = (random.vec(rows * d), random.vec(d));
            let mut out = vec![f32::NAN; rows * d];
            rms_norm(&x, d, &weight, 1e-6, &mut out).unwrap();
            assert_close(&out, &reference::rms_norm(&x, d, &weight, 1e-6), 1e-6, &format!("{isa} {rows}x{d}"));
        }
        let mut out = [1.0; 4];
        rms_norm(&[0.0; 4], 4, &[1.0; 4], 1e-6, &mut out).unwrap();
        assert_eq!(out, [0.0; 4]);
    });
    assert_eq!(
        rms_norm(&[0.0; 4], 0, &[], 1e-6, &mut [0.0; 4]).unwrap_err(),
        KernelError::Dimension { what: "rms_norm input elements, in rows of d", expected: "1 or more", found: 0 }
    );
    assert!(rms_norm(&[0.0; 4], 3, &[1.0; 3], 1e-6, &mut [0.0; 4]).is_err());
    assert!(rms_norm(&[0.0; 4], 4, &[1.0; 3], 1e-6, &mut [0.0; 4]).is_err());
    assert!(rms_norm(&[0.0; 4], 4, &[1.0; 4], 1e-6, &mut [0.0; 3]).is_err());
}

#[test]
fn softmax_matches_the_reference_and_survives_extremes() {
    each_isa(|isa| {
        let mut random = Random(5);
        for (rows, d) in [(1, 1), (3, 7), (4, 64), (2, 1001)] {
            let mut x: Vec<f32> = random.vec(rows * d).iter().map(|x| x * 30.0).collect();
            let expected: Vec<f32> = x
                .chunks_exact(d)
                .flat_map(|row| reference::softmax(&row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()))
                .map(|x| x as f32)
                .collect();
            softmax_rows(&mut x, d).unwrap();
            assert_close(&x, &expected, 1e-6, &format!("{isa} {rows}x{d}"));
        }
        let mut x = [1e30, 0.0, f32::NEG_INFINITY, f32::NAN, 1.0, 2.0];
        softmax_rows(&mut x, 3).unwrap();
        assert_eq!(x[..3], [1.0, 0.0, 0.0], "{isa}");
        assert!(x[3..].iter().all(|x| x.is_nan()), "{isa}");
    });
    assert!(softmax_rows(&mut [0.0; 4], 0).is_err());
    assert!(softmax_rows(&mut [0.0; 4], 3).is_err());
}
