//! What a training step adds to the other kernels, against the CPU's.

use switch_kernels::cuda::{self, attention, attention_backward, Activated, AttentionBackward, TokenLoss};
use switch_kernels::training::{self, Dropout, TokenLossOptions};
use switch_kernels::{activate, Activation, AttentionRow, RelativeBias};

use crate::attention::Case;
use crate::host::{at, each_order, out};
use crate::support::{assert_close, Random};

const NOISE: Dropout = Dropout { rate: 0.3, seed: 0x1234_5678_9abc_def0 };

#[test]
fn dropout_is_the_cpus_to_the_bit() {
    let x = Random(1).vec(700);
    for rate in [0.0, 0.1, 0.9, 1.0] {
        let noise = Dropout { rate, ..NOISE };
        let found = each_order(
            || vec![f32::NAN; x.len()],
            |launches, y| cuda::dropout(launches, at(&x), &noise, x.len(), out(y)).unwrap(),
            |y| y,
        );
        let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * noise.factor(i as u64)).collect();
        assert_eq!(found, expected, "{rate}");
    }
}

#[test]
fn columns_go_from_one_width_to_another() {
    let x = Random(2).vec(4 * 9);
    let found = each_order(
        || vec![0f32; 4 * 7],
        |launches, y| cuda::copy_columns(launches, (at(&x), 2, 9), (out(y), 1, 7), 4, 5).unwrap(),
        |y| y,
    );
    for row in 0..4 {
        assert_eq!(found[row * 7 + 1..row * 7 + 6], x[row * 9 + 2..row * 9 + 7]);
        assert_eq!((found[row * 7], found[row * 7 + 6]), (0.0, 0.0));
    }
    let mut launches = Vec::new();
    assert!(cuda::copy_columns(&mut launches, (0, 5, 9), (0, 0, 9), 4, 5).is_err());
}

#[test]
fn attention_with_dropout_and_its_gradients() {
    let rows = vec![
        (4, 4, None, None),
        (35, 40, Some([0u8, 1, 1, 0, 1].repeat(8)), None),
        (6, 6, Some(vec![0, 1, 1, 1, 1, 0]), Some(0)),
        // Sees nothing.
        (3, 5, Some(vec![0; 5]), None),
    ];
    let case = Case::new(rows, 2, 5);
    let width = case.heads * case.dim;
    let g = Random(9).vec(case.q.len());
    let (nq, nk, nb) = (case.q.len(), case.k.len(), case.bias.len());
    let found = each_order(
        || [nq, nq / case.dim, nq, nk, nk, case.spans.len() * nb, nb].map(|n| vec![0f32; n]),
        |launches, [y, lse, dq, dk, dv, db, sum]| {
            let forward = cuda::Attention { dropout: (&NOISE).into(), ..case.operands(out(y), out(lse), true) };
            attention(launches, &forward, &case.spans).unwrap();
            let p = AttentionBackward {
                forward,
                out_grad: at(&g),
                q_grad: out(dq),
                k_grad: out(dk),
                v_grad: out(dv),
                bias_grad: out(db),
            };
            attention_backward(launches, &p, &case.spans).unwrap();
            cuda::sum_rows(launches, at(db), case.spans.len(), nb, out(sum)).unwrap();
        },
        |[y, _, dq, dk, dv, _, db]| [y, dq, dk, dv, db].concat(),
    );
    let rows: Vec<AttentionRow<'_>> = case
        .spans
        .iter()
        .zip(&case.rows)
        .map(|(s, (_, _, mask, causal_offset))| AttentionRow {
            q: &case.q[s.q_start * width..(s.q_start + s.q_len) * width],
            k: &case.k[s.kv_start * width..(s.kv_start + s.kv_len) * width],
            v: &case.v[s.kv_start * width..(s.kv_start + s.kv_len) * width],
            q_len: s.q_len,
            kv_len: s.kv_len,
            mask: mask.as_deref(),
            causal_offset: *causal_offset,
            bias: Some(RelativeBias {
                values: &case.bias,
                span: case.span,
                zero: case.zero,
                q_start: causal_offset.unwrap_or(0),
            }),
        })
        .collect();
    let by_row = |lens: fn(&cuda::Span) -> usize, each: usize| -> Vec<Vec<f32>> {
        case.spans.iter().map(|s| vec![0f32; lens(s) * each]).collect()
    };
    let (mut y, mut lse) = (by_row(|s| s.q_len, width), by_row(|s| s.q_len, case.heads));
    let (mut dq, mut dk, mut dv) =
        (by_row(|s| s.q_len, width), by_row(|s| s.kv_len, width), by_row(|s| s.kv_len, width));
    let mut db = vec![0f32; nb];
    fn slices(of: &mut [Vec<f32>]) -> Vec<&mut [f32]> {
        of.iter_mut().map(Vec::as_mut_slice).collect()
    }
    fn shared(of: &[Vec<f32>]) -> Vec<&[f32]> {
        of.iter().map(Vec::as_slice).collect()
    }
    training::attention_train(&rows, case.heads, case.dim, &NOISE, &mut slices(&mut y), &mut slices(&mut lse)).unwrap();
    let g: Vec<&[f32]> = case.spans.iter().map(|s| &g[s.q_start * width..(s.q_start + s.q_len) * width]).collect();
    training::attention_backward(
        &rows,
        case.heads,
        case.dim,
        &NOISE,
        &shared(&y),
        &shared(&lse),
        &g,
        &mut slices(&mut dq),
        &mut slices(&mut dk),
        &mut slices(&mut dv),
        Some(&mut db),
    )
    .unwrap();
    let expected = [y.concat(), dq.concat(), dk.concat(), dv.concat(), db].concat();
    assert_close(&found, &expected, 1e-5, "attention with dropout");
}

#[test]
fn hidden_states_and_their_way_back() {
    let (tokens, d_ff) = (6usize, 70);
    let mut random = Random(4);
    let (pre, gate, grad) = (random.vec(tokens * d_ff), random.vec(tokens * d_ff), random.vec(tokens * d_ff));
    // Four of six tokens, in another order.
    let (order, count) = ([5i32, 0, 3, 1, -7, -7], [4i32]);
    for (gated, listed) in [(false, false), (true, false), (true, true)] {
        let p = Activated {
            pre: at(&pre),
            gate: if gated { at(&gate) } else { 0 },
            act: Activation::GeluTanh,
            dropout: (&NOISE).into(),
            order: if listed { at(&order) } else { 0 },
            count: at(&count),
            most: tokens,
            d_ff,
        };
        let found = each_order(
            || (vec![0f32; tokens * d_ff], grad.clone(), vec![0f32; tokens * d_ff]),
            |launches, (y, dpre, dgate)| {
                cuda::activate_rows(launches, &p, out(y)).unwrap();
                cuda::activate_rows_backward(launches, &p, out(dpre), out(dgate)).unwrap();
            },
            |(y, dpre, dgate)| [y, dpre, dgate].concat(),
        );
        let places = if listed { 4 } else { tokens };
        let number = |i: usize| {
            let token = if listed { order[i / d_ff] as usize } else { i / d_ff };
            (token * d_ff + i % d_ff) as u64
        };
        let act = |x: f32| {
            let mut y = [x];
            activate(Activation::GeluTanh, &mut y);
            y[0]
        };
        let slope = |x: f32| (f64::from(act(x + 1e-3)) - f64::from(act(x - 1e-3))) as f32 / 2e-3;
        let n = places * d_ff;
        let expected: Vec<f32> =
            (0..n).map(|i| act(pre[i]) * if gated { gate[i] } else { 1.0 } * NOISE.factor(number(i))).collect();
        assert_close(&found[..n], &expected, 1e-5, "hidden states");
        let expected: Vec<f32> = (0..n)
            .map(|i| grad[i] * NOISE.factor(number(i)) * if gated { gate[i] } else { 1.0 } * slope(pre[i]))
            .collect();
        assert_close(&found[tokens * d_ff..][..n], &expected, 1e-3, "gradients of hidden states");
        if gated {
            let expected: Vec<f32> = (0..n).map(|i| grad[i] * NOISE.factor(number(i)) * act(pre[i])).collect();
            assert_close(&found[2 * tokens * d_ff..][..n], &expected, 1e-5, "gradients of gates");
        }
        // What lies past the list stays.
        assert!(found[n..tokens * d_ff].iter().all(|x| *x == 0.0));
    }
}

#[test]
fn gates_of_routed_tokens() {
    let (tokens, d_ff) = (5usize, 40);
    let mut random = Random(6);
    let (activated, inside) = (random.vec(tokens * d_ff), random.vec(tokens * d_ff));
    let weight = random.vec(tokens);
    let (order, count) = ([4i32, 2, 0, -7, -7], [3i32]);
    let found = each_order(
        || (inside.clone(), vec![0f32; tokens]),
        |launches, (inside, dweight)| {
            let (a, w, o, c) = (at(&activated), at(&weight), at(&order), at(&count));
            cuda::gate_backward(launches, a, w, o, c, tokens, d_ff, out(inside), out(dweight)).unwrap();
        },
        |(inside, dweight)| [inside, dweight].concat(),
    );
    let (mut expected, mut dweight) = (inside.clone(), vec![0f32; tokens]);
    for (place, token) in order[..3].iter().enumerate() {
        let row = place * d_ff..(place + 1) * d_ff;
        dweight[*token as usize] = activated[row.clone()].iter().zip(&inside[row.clone()]).map(|(a, b)| a * b).sum();
        expected[row].iter_mut().for_each(|x| *x *= weight[*token as usize]);
    }
    assert_close(&found, &[expected, dweight].concat(), 1e-6, "gates");
}

#[test]
fn losses_over_the_vocabulary() {
    let (tokens, vocab) = (5usize, 700);
    let mut random = Random(8);
    let logits: Vec<f32> = random.vec(tokens * vocab).iter().map(|x| x * 4.0).collect();
    let teacher: Vec<f32> = random.vec(tokens * vocab).iter().map(|x| x * 3.0).collect();
    let mut labels: Vec<i32> = (0..tokens).map(|_| random.below(vocab) as i32).collect();
    let mut logits = logits;
    // One that is right, and one that shares the largest with an earlier word.
    logits[labels[1] as usize + vocab] = 9.0;
    labels[2] = 30;
    (logits[2 * vocab + 30], logits[2 * vocab + 20]) = (9.0, 9.0);
    let wide: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
    let plain = TokenLossOptions::default();
    let all = TokenLossOptions {
        label_smoothing: 0.1,
        z_loss: 1e-2,
        hard_weight: 0.4,
        soft_weight: 0.6,
        temperature: 2.0,
        ..plain
    };
    for (options, taught) in [(plain, false), (all, true)] {
        for gradient in [None, Some(0.2)] {
            let teacher_at = if taught { at(&teacher) } else { 0 };
            let found = each_order(
                || (logits.clone(), vec![0f64; tokens * 3], vec![-1i32; tokens]),
                |launches, (logits, losses, correct)| {
                    let p = TokenLoss {
                        logits: out(logits),
                        teacher: teacher_at,
                        labels: at(&labels),
                        losses: out(losses),
                        correct: out(correct),
                    };
                    cuda::token_loss(launches, &p, tokens, vocab, &options, gradient).unwrap();
                },
                |(logits, losses, correct)| {
                    let sum = |part: usize| losses.iter().skip(part).step_by(3).sum::<f64>() as f32;
                    let right = correct.iter().sum::<i32>() as f32;
                    [logits, vec![sum(0), sum(1), sum(2), right]].concat()
                },
            );
            let mut expected = logits.clone();
            let sums =
                training::token_loss(&mut expected, vocab, &wide, taught.then_some(&teacher), &options, gradient)
                    .unwrap();
            let sums = [sums.hard as f32, sums.z as f32, sums.soft as f32, sums.correct as f32];
            assert_close(&found[..tokens * vocab], &expected, 1e-5, "gradients of logits");
            assert_close(&found[tokens * vocab..], &sums, 1e-5, "losses");
            assert_eq!(found[tokens * vocab + 3], 1.0);
        }
    }
}
