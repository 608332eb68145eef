use crate::each_thread_count;
use crate::support::*;
use switch_kernels::training::reference::{self, narrow};
use switch_kernels::training::{token_loss, TokenLossOptions};

fn options() -> Vec<TokenLossOptions> {
    let plain = TokenLossOptions::default();
    vec![
        plain,
        TokenLossOptions { label_smoothing: 0.1, ..plain },
        TokenLossOptions { z_loss: 1e-2, ignore_index: 2, ..plain },
        TokenLossOptions { hard_weight: 0.75, soft_weight: 0.25, temperature: 2.0, ..plain },
        TokenLossOptions {
            label_smoothing: 0.2,
            z_loss: 1e-3,
            hard_weight: 0.4,
            soft_weight: 0.7,
            temperature: 0.5,
            ..plain
        },
    ]
}

/// The gradient by differences of the slow loss.
fn gradient(logits: &[f32], vocab: usize, labels: &[i64], teacher: Option<&[f64]>, o: &TokenLossOptions) -> Vec<f64> {
    let mut out = Vec::with_capacity(logits.len());
    for (token, row) in logits.chunks_exact(vocab).enumerate() {
        let teacher = teacher.map(|teacher| &teacher[token * vocab..(token + 1) * vocab]);
        for i in 0..vocab {
            let at = |step: f64| {
                let mut row = reference::widen(row);
                row[i] += step;
                let [hard, z, soft] = reference::token_loss(&row, vocab, &labels[token..token + 1], teacher, o);
                f64::from(o.hard_weight) * hard + f64::from(o.z_loss) * z + f64::from(o.soft_weight) * soft
            };
            let h = 1e-3;
            out.push((8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h));
        }
    }
    out
}

#[test]
fn losses_and_gradients_match_the_reference() {
    each_isa(|isa| {
        let mut random = Random(60);
        for (n, vocab) in [(0, 3), (1, 1), (7, 5), (20, 33), (9, 100)] {
            for with_teacher in [false, true] {
                for options in options() {
                    let logits: Vec<f32> = random.vec(n * vocab).iter().map(|x| x * 5.0).collect();
                    let teacher: Vec<f32> = random.vec(n * vocab).iter().map(|x| x * 4.0).collect();
                    let labels: Vec<i64> = (0..n)
                        .map(|t| if t % 5 == 3 { options.ignore_index } else { random.below(vocab) as i64 })
                        .collect();
                    let what = format!("{isa} {n} of {vocab}, teacher {with_teacher}, {options:?}");
                    let teacher = with_teacher.then_some(&teacher[..]);
                    let run = |scale: Option<f32>| {
                        let mut logits = logits.clone();
                        let sums = token_loss(&mut logits, vocab, &labels, teacher, &options, scale).unwrap();
                        (sums, logits)
                    };
                    let (sums, same) = run(None);
                    assert_eq!(same, logits, "{what}: logits changed without a gradient");
                    let found = each_thread_count(&what, || {
                        let (again, gradient) = run(Some(0.5));
                        assert_eq!(again, sums);
                        vec![gradient]
                    });
                    let wide = teacher.map(reference::widen);
                    let slow =
                        reference::token_loss(&reference::widen(&logits), vocab, &labels, wide.as_deref(), &options);
                    let near = |a: f64, b: f64| assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{what}: {a} {b}");
                    near(sums.hard, slow[0]);
                    near(sums.z, slow[1]);
                    near(sums.soft, slow[2]);
                    let counted = labels.iter().filter(|&&label| label != options.ignore_index).count();
                    assert_eq!(sums.count, counted as u64);
                    let expected = gradient(&logits, vocab, &labels, wide.as_deref(), &options);
                    let expected: Vec<f64> = expected.iter().map(|x| x * 0.5).collect();
                    // A vocabulary of 1 has no gradient but for the z-loss, and differences leave noise.
                    let size: f64 = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
                    if size > 1e-6 {
                        assert_close(&found[0], &narrow(&expected), 4e-6, &what);
                    } else {
                        assert!(found[0].iter().all(|x| x.abs() < 1e-6), "{what}");
                    }
                }
            }
        }
    });
}

#[test]
fn correct_tokens_are_those_whose_label_is_the_first_largest() {
    let mut logits = [1.0, 3.0, 3.0, /**/ 1.0, 3.0, 3.0, /**/ 0.0, 0.0, -1.0];
    let plain = TokenLossOptions::default();
    let sums = token_loss(&mut logits, 3, &[1, 2, -100], None, &plain, None).unwrap();
    assert_eq!((sums.count, sums.correct), (2, 1));
}

#[test]
fn large_logits_do_not_overflow_and_broken_ones_show() {
    let plain = TokenLossOptions::default();
    let mut logits = [1e30, -1e30, 0.0];
    let sums = token_loss(&mut logits, 3, &[0], None, &plain, Some(1.0)).unwrap();
    assert_eq!((sums.hard, logits), (0.0, [0.0, 0.0, 0.0]));
    let mut logits = [f32::NAN, 0.0];
    assert!(token_loss(&mut logits, 2, &[0], None, &plain, Some(1.0)).unwrap().hard.is_nan());
    let mut logits = [f32::INFINITY, 0.0];
    assert!(token_loss(&mut logits, 2, &[1], None, &plain, Some(1.0)).unwrap().hard.is_nan());
}

#[test]
fn labels_outside_of_the_vocabulary_are_refused() {
    let plain = TokenLossOptions::default();
    for label in [-1, 3, i64::MAX, i64::MIN] {
        let mut logits = [1.0, 2.0, 3.0];
        let error = token_loss(&mut logits, 3, &[label], None, &plain, Some(1.0)).unwrap_err();
        assert_eq!((error.code(), logits), ("INVALID_INPUT", [1.0, 2.0, 3.0]));
    }
}
