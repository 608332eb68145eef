//! Gradients against differences of a float64 forward pass.

use switch_kernels::cuda::{self, attention, attention_backward, AttentionBackward, Flags, Product, RmsNormBackward};
use switch_kernels::cuda::{Arithmetic, Route, WeightType};
use switch_kernels::{reference, Activation, Routes};

use crate::attention::Case;
use crate::host::{at, each_order, out};
use crate::support::{assert_close, Random};

/// d loss / d x by central differences.
fn differences(x: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f32> {
    let mut at: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let middle = at[i];
            at[i] = middle + step;
            let high = loss(&at);
            at[i] = middle - step;
            let low = loss(&at);
            at[i] = middle;
            ((high - low) / (2.0 * step)) as f32
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Σ out · g of attention, with float64 operands.
fn attention_loss(case: &Case, g: &[f32], q: &[f64], k: &[f64], v: &[f64], bias: &[f64]) -> f64 {
    let width = case.heads * case.dim;
    let mut loss = 0.0;
    for (span, (_, _, mask, causal)) in case.spans.iter().zip(&case.rows) {
        for head in 0..case.heads {
            for i in 0..span.q_len {
                let q_at = (span.q_start + i) * width + head * case.dim;
                let sees =
                    |j: usize| causal.is_none_or(|past| j <= past + i) && mask.as_ref().is_none_or(|mask| mask[j] != 0);
                let scores: Vec<f64> = (0..span.kv_len)
                    .map(|j| {
                        let k_at = (span.kv_start + j) * width + head * case.dim;
                        let dot: f64 = (0..case.dim).map(|c| q[q_at + c] * k[k_at + c]).sum();
                        let place = head * case.span + case.zero + j - (causal.unwrap_or(0) + i);
                        if sees(j) {
                            dot + bias[place]
                        } else {
                            f64::NEG_INFINITY
                        }
                    })
                    .collect();
                let some = scores.iter().any(|s| s.is_finite());
                let p = if some { reference::softmax(&scores) } else { vec![1.0 / span.kv_len as f64; span.kv_len] };
                for (j, p) in p.iter().enumerate() {
                    let k_at = (span.kv_start + j) * width + head * case.dim;
                    for c in 0..case.dim {
                        loss += p * v[k_at + c] * f64::from(g[q_at + c]);
                    }
                }
            }
        }
    }
    loss
}

#[test]
fn attention_of_ragged_rows() {
    let rows = vec![
        (4, 4, None, None),
        (5, 6, Some(vec![0, 1, 1, 0, 1, 1]), None),
        (6, 6, Some(vec![1, 0, 1, 1, 1, 0]), Some(0)),
        (3, 5, None, Some(2)),
    ];
    let case = Case::new(rows, 2, 5);
    let g = Random(9).vec(case.q.len());
    let (nq, nk, nb) = (case.q.len(), case.k.len(), case.bias.len());
    let lse_len = nq / case.dim;
    let found = each_order(
        || {
            let many = case.spans.len() * nb;
            [
                vec![0f32; nq],
                vec![0f32; lse_len],
                vec![0f32; nq],
                vec![0f32; nk],
                vec![0f32; nk],
                vec![0f32; many],
                vec![0f32; nb],
            ]
        },
        |launches, [y, lse, dq, dk, dv, db, sum]| {
            let forward = case.operands(out(y), out(lse), true);
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
        |[_, _, dq, dk, dv, _, db]| [dq, dk, dv, db].concat(),
    );
    let (q, k, v, bias) = (wide(&case.q), wide(&case.k), wide(&case.v), wide(&case.bias));
    let expected = [
        differences(&case.q, |q| attention_loss(&case, &g, q, &k, &v, &bias)),
        differences(&case.k, |k| attention_loss(&case, &g, &q, k, &v, &bias)),
        differences(&case.v, |v| attention_loss(&case, &g, &q, &k, v, &bias)),
        differences(&case.bias, |bias| attention_loss(&case, &g, &q, &k, &v, bias)),
    ]
    .concat();
    assert_close(&found, &expected, 1e-5, "attention's gradients");
}

#[test]
fn norm_and_its_weight() {
    let (rows, d) = (70, 9);
    let mut random = Random(3);
    let (x, w, g) = (random.vec(rows * d), random.vec(d), random.vec(rows * d));
    let loss = |x: &[f64], w: &[f64]| {
        let mut loss = 0.0;
        for (x, g) in x.chunks_exact(d).zip(g.chunks_exact(d)) {
            let scale = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / d as f64 + 1e-6).sqrt();
            loss += x.iter().zip(w).zip(g).map(|((x, w), g)| x * scale * w * f64::from(*g)).sum::<f64>();
        }
        loss
    };
    let parts = cuda::NORM_WEIGHT_PARTS;
    let found = each_order(
        || [vec![0f32; rows * d], vec![0f32; d], vec![0f32; rows], vec![0f32; parts * d]],
        |launches, [dx, dw, scales, partial]| {
            let p = RmsNormBackward {
                x: at(&x),
                weight: at(&w),
                eps: 1e-6,
                out_grad: at(&g),
                x_grad: out(dx),
                weight_grad: out(dw),
                scales: out(scales),
                partial: out(partial),
            };
            cuda::rms_norm_backward(launches, &p, rows, d).unwrap();
        },
        |[dx, dw, _, _]| [dx, dw].concat(),
    );
    let expected = [differences(&x, |x| loss(x, &wide(&w))), differences(&w, |w| loss(&wide(&x), w))].concat();
    assert_close(&found, &expected, 1e-5, "norm's gradients");
}

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

/// The function itself through a product by 1, its slope through activation_backward.
#[test]
fn every_activation_and_its_slope() {
    let n = 601;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 - 300.0) * 0.0417 + 0.003).collect();
    let (one, ones) = ([1f32], vec![1f32; n]);
    let gate: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / n as f32).collect();
    for act in ALL {
        let found = each_order(
            || [vec![0f32; n], vec![0f32; n], vec![0f32; n]],
            |launches, [y, pre, gated]| {
                let p = Product { a: at(&x), a_row: 1, a_k: 1, b: at(&one), b_row: 1, b_k: 1, ..Product::default() };
                let p = Product { y: out(y), y_row: 1, m: n, n: 1, k: 1, ..p };
                cuda::product(launches, Arithmetic::Float32, WeightType::F32, act, &p).unwrap();
                cuda::activation_backward(launches, act, at(&x), at(&gate), at(&ones), n, out(pre), out(gated))
                    .unwrap();
            },
            |[y, pre, gated]| [y, pre, gated].concat(),
        );
        let expected: Vec<f32> = x.iter().map(|x| reference::activation(act, *x)).collect();
        assert_close(&found[..n], &expected, 1e-6, &format!("{act:?}"));
        assert_close(&found[2 * n..], &expected, 1e-6, &format!("gate of {act:?}"));
        for i in 0..n {
            // The reference works in float64 and answers in float32: a wide step.
            let (low, high) = (x[i] - 0.01, x[i] + 0.01);
            let slope = (reference::activation(act, high) - reference::activation(act, low)) / (high - low) * gate[i];
            let corner = [0.0, 3.0, -3.0, 6.0, 10.0, 20.0].iter().any(|c: &f32| (x[i] - c).abs() < 0.02);
            let far = (found[n + i] - slope).abs() > 2e-3;
            assert!(corner || !far, "slope of {act:?} at {}: {}, expected {slope}", x[i], found[n + i]);
        }
    }
}

#[test]
fn products_both_ways() {
    let (m, n, k) = (45, 30, 50);
    let mut random = Random(6);
    let (x, w, g) = (random.vec(m * k), random.vec(n * k), random.vec(m * n));
    let found = each_order(
        || [vec![0f32; m * k], vec![1f32; n * k]],
        |launches, [dx, dw]| {
            // dx[m, k] = g[m, n] · w[n, k]
            let p = Product { a: at(&g), a_row: n, a_k: 1, b: at(&w), b_row: 1, b_k: k, ..Product::default() };
            let p = Product { y: out(dx), y_row: k, m, n: k, k: n, ..p };
            cuda::product(launches, Arithmetic::Float32, WeightType::F32, Activation::Identity, &p).unwrap();
            // dw[n, k] += gᵀ[n, m] · x[m, k]
            let p = Product { a: at(&g), a_row: 1, a_k: n, b: at(&x), b_row: 1, b_k: k, ..Product::default() };
            let flags = Flags { add: true, ..Flags::default() };
            let p = Product { y: out(dw), y_row: k, m: n, n: k, k: m, flags, ..p };
            cuda::product(launches, Arithmetic::Float32, WeightType::F32, Activation::Identity, &p).unwrap();
        },
        |[dx, dw]| [dx, dw].concat(),
    );
    let dx = (0..m * k).map(|i| (0..n).map(|j| g[i / k * n + j] * w[j * k + i % k]).sum::<f32>());
    let dw = (0..n * k).map(|i| 1.0 + (0..m).map(|r| g[r * n + i / k] * x[r * k + i % k]).sum::<f32>());
    assert_close(&found, &dx.chain(dw).collect::<Vec<_>>(), 1e-6, "gradients of a product");
}

/// The gradients of experts' weights: groups of the summed dimension.
#[test]
fn products_over_ragged_depths() {
    let (d, d_ff, offsets) = (20, 70, [0i32, 5, 5, 38, 41]);
    for arithmetic in [Arithmetic::Float32, Arithmetic::Tf32] {
        let mut random = Random(8);
        let rows = 41;
        let (x, g) = (random.vec(rows * d), random.vec(rows * d_ff));
        let found = each_order(
            || vec![vec![0f32; d_ff * d]; 4],
            |launches, dw| {
                // Lives as long as the launches: the case runs at once.
                let table: &'static [u64] = dw.iter_mut().map(|w| out(w)).collect::<Vec<_>>().leak();
                let p = Product { a: at(&g), a_row: 1, a_k: d_ff, b: at(&x), b_row: 1, b_k: d, ..Product::default() };
                let flags = Flags { ragged_k: true, ..Flags::default() };
                let p = Product { y_table: at(table), y_row: d, offsets: at(&offsets), groups: 4, flags, ..p };
                let p = Product { m: d_ff, n: d, k: rows, ..p };
                cuda::product(launches, arithmetic, WeightType::F32, Activation::Identity, &p).unwrap();
            },
            |dw| dw.concat(),
        );
        let mut expected = Vec::new();
        for group in offsets.windows(2) {
            for (f, c) in (0..d_ff * d).map(|i| (i / d, i % d)) {
                let rows = group[0] as usize..group[1] as usize;
                expected.push(rows.map(|r| g[r * d_ff + f] * x[r * d + c]).sum::<f32>());
            }
        }
        let tolerance = if arithmetic == Arithmetic::Tf32 { 1e-3 } else { 1e-6 };
        assert_close(&found, &expected, tolerance, "gradients of experts");
    }
}

#[test]
fn embeddings_routes_and_lists() {
    let (vocab, d, ids) = (5, 33, [3u32, 1, 3, 3, 0]);
    let mut random = Random(4);
    let g = random.vec(ids.len() * d);
    let found = each_order(
        || vec![1f32; vocab * d],
        |launches, table| cuda::embedding_backward(launches, at(&ids), at(&g), ids.len(), d, out(table)).unwrap(),
        |table| table,
    );
    let mut expected = vec![1f32; vocab * d];
    for (i, g) in g.iter().enumerate() {
        expected[ids[i / d] as usize * d + i % d] += g;
    }
    assert_close(&found, &expected, 1e-7, "gradient of a table");

    // Of a router, by its chosen probability.
    let (tokens, experts) = (3, 7);
    let logits = random.vec(tokens * experts);
    let (expert, weight_grad) = ([2i32, -1, 6], random.vec(tokens));
    let found = each_order(
        || vec![0f32; tokens * experts],
        |launches, grad| {
            let r = Route { logits: at(&logits), expert: at(&expert), ..Route::default() };
            cuda::route_backward(launches, &r, at(&weight_grad), out(grad), tokens, experts).unwrap();
        },
        |grad| grad,
    );
    let expected = differences(&logits, |logits| {
        let chosen = |t: usize, e: i32| reference::softmax(&logits[t * experts..][..experts])[e as usize];
        (0..tokens).filter(|t| expert[*t] >= 0).map(|t| chosen(t, expert[t]) * f64::from(weight_grad[t])).sum()
    });
    assert_close(&found, &expected, 1e-5, "gradient of routes");

    // Lists of tokens by expert.
    let routes = Routes { expert: vec![1, -1, 0, 1], ..Routes::default() };
    let (order, count) = ([2i32, 0, 3, -9], [3i32]);
    let (x, y, weight) = (random.vec(4 * d), random.vec(4 * d), random.vec(4));
    let found = each_order(
        || [vec![0f32; 4 * d], vec![0f32; 4]],
        |launches, [sorted, dots]| {
            cuda::gather_rows(launches, at(&x), at(&order), at(&count), at(&weight), 4, d, out(sorted)).unwrap();
            cuda::row_dots(launches, at(&x), at(&y), at(&order), at(&count), 4, d, out(dots)).unwrap();
        },
        |[sorted, dots]| [sorted, dots].concat(),
    );
    let mut expected = vec![0f32; 4 * d + 4];
    for (place, &token) in order[..3].iter().enumerate() {
        let token = token as usize;
        assert!(routes.expert[token] >= 0);
        for c in 0..d {
            expected[place * d + c] = x[token * d + c] * weight[token];
            expected[4 * d + token] += x[token * d + c] * y[place * d + c];
        }
    }
    assert_close(&found, &expected, 1e-6, "lists");
}

#[test]
fn cross_entropy_with_ignored_labels() {
    let (tokens, classes) = (4, 300);
    let mut random = Random(7);
    let logits = random.vec(tokens * classes);
    let labels = [7i32, -100, 299, 0];
    let found = each_order(
        || [vec![f32::NAN; tokens], vec![f32::NAN; tokens * classes]],
        |launches, [log_probs, grad]| {
            cuda::cross_entropy(launches, at(&logits), at(&labels), tokens, classes, 0.25, out(log_probs), out(grad))
                .unwrap();
        },
        |[log_probs, grad]| [log_probs, grad].concat(),
    );
    let log_prob = |logits: &[f64], t: usize| {
        if labels[t] < 0 {
            return 0.0;
        }
        reference::softmax(&logits[t * classes..][..classes])[labels[t] as usize].ln()
    };
    let mut expected: Vec<f32> = (0..tokens).map(|t| log_prob(&wide(&logits), t) as f32).collect();
    expected.extend(differences(&logits, |logits| -0.25 * (0..tokens).map(|t| log_prob(logits, t)).sum::<f64>()));
    assert_close(&found, &expected, 1e-5, "cross entropy");
}
