use crate::each_thread_count;
use crate::support::*;
use switch_kernels::training::reference::{self, narrow, Attention};
use switch_kernels::training::{attention_backward, attention_train, Dropout};
use switch_kernels::{AttentionRow, RelativeBias};

/// Where one key gets all the weight gradients of scores are 0, and what is compared is rounding.
const TOLERANCE: f64 = 1e-5;

struct Case {
    heads: usize,
    head_dim: usize,
    /// Of each row: queries, keys, the share of keys that are masked.
    rows: Vec<(usize, usize, f32)>,
    causal: Option<usize>,
    bias: bool,
    rate: f32,
}

struct Data {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    mask: Vec<u8>,
}

fn check(case: &Case, random: &mut Random, what: &str) {
    let &Case { heads, head_dim, ref rows, causal, bias, rate } = case;
    let width = heads * head_dim;
    let longest = rows.iter().map(|row| row.0.max(row.1)).max().unwrap();
    let (zero, span) = (longest, 2 * longest + 1);
    let values = random.vec(heads * span);
    let data: Vec<Data> = rows
        .iter()
        .map(|&(q_len, kv_len, masked)| Data {
            q: random.vec(q_len * width).iter().map(|x| x / (head_dim as f32).sqrt()).collect(),
            k: random.vec(kv_len * width),
            v: random.vec(kv_len * width),
            dout: random.vec(q_len * width),
            mask: (0..kv_len).map(|_| u8::from((random.unit() + 1.0) / 2.0 >= masked)).collect(),
        })
        .collect();
    let inputs: Vec<AttentionRow<'_>> = rows
        .iter()
        .zip(&data)
        .map(|(&(q_len, kv_len, masked), data)| AttentionRow {
            q: &data.q,
            k: &data.k,
            v: &data.v,
            q_len,
            kv_len,
            mask: (masked > 0.0).then_some(&data.mask),
            causal_offset: causal,
            bias: bias.then_some(RelativeBias { values: &values, span, zero, q_start: 0 }),
        })
        .collect();
    let dropout = Dropout { rate, seed: 99 };
    let before = random.vec(heads * span);
    let found = each_thread_count(what, || {
        let sized = |of: fn(&AttentionRow<'_>) -> usize| -> Vec<Vec<f32>> {
            inputs.iter().map(|row| vec![f32::NAN; of(row)]).collect()
        };
        let (mut out, mut lse) = (sized(|row| row.q.len()), Vec::new());
        lse.extend(inputs.iter().map(|row| vec![f32::NAN; heads * row.q_len]));
        let (mut dq, mut dk, mut dv) = (sized(|row| row.q.len()), sized(|row| row.k.len()), sized(|row| row.v.len()));
        attention_train(&inputs, heads, head_dim, &dropout, &mut parts(&mut out), &mut parts(&mut lse)).unwrap();
        let mut dbias = before.clone();
        let dout: Vec<&[f32]> = data.iter().map(|data| &data.dout[..]).collect();
        attention_backward(
            &inputs,
            heads,
            head_dim,
            &dropout,
            &slices(&out),
            &slices(&lse),
            &dout,
            &mut parts(&mut dq),
            &mut parts(&mut dk),
            &mut parts(&mut dv),
            bias.then_some(&mut dbias[..]),
        )
        .unwrap();
        [out, dq, dk, dv, vec![dbias]].into_iter().flatten().collect()
    });
    let mut first = 0;
    let mut dbias = reference::widen(&before);
    let n = rows.len();
    for (i, (row, data)) in inputs.iter().zip(&data).enumerate() {
        let slow = Attention::of(row);
        let out = slow.forward(row, heads, head_dim, &dropout, first);
        let back = slow.backward(row, heads, head_dim, &dropout, first, &reference::widen(&data.dout));
        first += (heads * row.q_len * row.kv_len) as u64;
        for (to, more) in dbias.iter_mut().zip(&back.bias) {
            *to += more;
        }
        for (part, expected) in [out, back.q, back.k, back.v].iter().enumerate() {
            let name = ["out", "dq", "dk", "dv"][part];
            assert_close(&found[part * n + i], &narrow(expected), TOLERANCE, &format!("{what}, row {i}, {name}"));
        }
    }
    assert_close(&found[4 * n], &narrow(&dbias), TOLERANCE, &format!("{what}, dbias"));
}

fn parts(of: &mut [Vec<f32>]) -> Vec<&mut [f32]> {
    of.iter_mut().map(Vec::as_mut_slice).collect()
}

fn slices(of: &[Vec<f32>]) -> Vec<&[f32]> {
    of.iter().map(Vec::as_slice).collect()
}

#[test]
fn attention_matches_the_reference_both_ways() {
    each_isa(|isa| {
        let mut random = Random(50);
        for (heads, head_dim) in [(1, 1), (2, 7), (4, 32), (3, 64), (1, 80)] {
            for rows in [
                vec![(1, 1, 0.0)],
                vec![(5, 5, 0.0), (3, 3, 0.5)],
                vec![(17, 40, 0.3)],
                vec![(60, 60, 0.0), (0, 3, 0.0), (100, 33, 0.2), (2, 0, 0.0), (1, 9, 1.0)],
            ] {
                for causal in [None, Some(0)] {
                    for bias in [false, true] {
                        for rate in [0.0, 0.25] {
                            let what = format!(
                                "{isa} heads {heads} of {head_dim}, {rows:?}, causal {causal:?}, bias {bias}, {rate}"
                            );
                            let rows = rows.clone();
                            check(&Case { heads, head_dim, rows, causal, bias, rate }, &mut random, &what);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn many_rows_share_a_bias() {
    each_isa(|isa| {
        let rows = (0..40).map(|i| (1 + i % 7, 1 + i % 7, 0.0)).collect();
        let case = Case { heads: 4, head_dim: 16, rows, causal: Some(0), bias: true, rate: 0.1 };
        check(&case, &mut Random(51), isa);
    });
}

/// As torch: the mask adds the lowest float to every score, so that all are equal, and the softmax over them has a gradient.
#[test]
fn a_query_without_any_key_still_has_gradients() {
    let (q, k, v) = ([1.0, 2.0], [1.0, 5.0, 9.0], [3.0, 6.0, 9.0]);
    let values = [0.5, 0.25]; // Distances -1 and 0.
    let row = AttentionRow {
        q: &q,
        k: &k,
        v: &v,
        q_len: 2,
        kv_len: 3,
        mask: Some(&[0, 0, 0]),
        causal_offset: Some(0),
        bias: Some(RelativeBias { values: &values, span: 2, zero: 1, q_start: 0 }),
    };
    let (mut out, mut lse) = ([0.0; 2], [0.0; 2]);
    attention_train(&[row], 1, 1, &Dropout::NONE, &mut [&mut out], &mut [&mut lse]).unwrap();
    assert_eq!((out, lse), ([6.0, 6.0], [3f32.ln(), 3f32.ln()]));
    let (mut dq, mut dk, mut dv, mut dbias) = ([9.0; 2], [9.0; 3], [9.0; 3], [0.0; 2]);
    let (dq_to, dk_to, dv_to) = (&mut [&mut dq[..]], &mut [&mut dk[..]], &mut [&mut dv[..]]);
    let none = Dropout::NONE;
    let dout: &[f32] = &[1.0, 0.0];
    attention_backward(&[row], 1, 1, &none, &[&out], &[&lse], &[dout], dq_to, dk_to, dv_to, Some(&mut dbias)).unwrap();
    // p = 1/3, dp = v, ds = p (v - 6) = -1, 0, 1 for the first query.
    assert_eq!((dq, dk), ([8.0, 0.0], [-1.0, 0.0, 1.0]));
    assert_eq!(dv, [1.0 / 3.0; 3]);
    // Distances 0, 1, 2; those past the span count as its last.
    assert_eq!(dbias, [0.0, 0.0]);
}
