//! Attention against the reference, over masks, causality and biases.

mod support;
use support::*;
use switch_kernels::{attention, parallel, reference, AttentionRow, RelativeBias};

struct Case {
    heads: usize,
    head_dim: usize,
    q_len: usize,
    kv_len: usize,
    causal: Option<usize>,
    masked: f32,
    bias: bool,
}

fn run(case: &Case, random: &mut Random, what: &str) {
    let &Case { heads, head_dim, q_len, kv_len, causal, masked, bias } = case;
    let width = heads * head_dim;
    let (q, k, v) = (random.vec(q_len * width), random.vec(kv_len * width), random.vec(kv_len * width));
    let mask: Vec<u8> = (0..kv_len).map(|_| u8::from((random.unit() + 1.0) / 2.0 >= masked)).collect();
    let q_start = causal.unwrap_or(0);
    let (zero, span) = (q_start + q_len, q_start + q_len + kv_len);
    let values = random.vec(heads * span);
    let row = AttentionRow {
        q: &q,
        k: &k,
        v: &v,
        q_len,
        kv_len,
        mask: (masked > 0.0).then_some(&mask),
        causal_offset: causal,
        bias: bias.then_some(RelativeBias { values: &values, span, zero, q_start }),
    };
    let mut out = vec![f32::NAN; q_len * width];
    attention(&[row], heads, head_dim, &mut [&mut out]).unwrap();
    assert_close(&out, &reference::attention(&row, heads, head_dim), 2e-6, what);
    parallel::set_threads(1);
    let mut again = vec![f32::NAN; q_len * width];
    attention(&[row], heads, head_dim, &mut [&mut again]).unwrap();
    parallel::set_threads(0);
    assert_eq!(out, again, "{what}: depends on threads");
}

#[test]
fn attention_matches_the_reference() {
    each_isa(|isa| {
        let mut random = Random(8);
        for (heads, head_dim) in [(1, 1), (2, 16), (3, 64), (2, 20), (2, 7), (1, 128)] {
            for (q_len, kv_len, causal) in [
                (1, 1, None),
                (5, 5, None),
                (5, 5, Some(0)),
                (1, 40, Some(39)),
                (3, 30, Some(27)),
                (67, 67, None),
                (50, 50, Some(0)),
                (4, 200, None),
                (1, 70, None),
                (2, 1, None),
            ] {
                for masked in [0.0, 0.3, 1.0] {
                    for bias in [false, true] {
                        let what = format!(
                            "{isa} heads {heads} of {head_dim}, {q_len} queries, {kv_len} keys, causal {causal:?}, \
                             masked {masked}, bias {bias}"
                        );
                        run(&Case { heads, head_dim, q_len, kv_len, causal, masked, bias }, &mut random, &what);
                    }
                }
            }
        }
    });
}

fn ones(width: usize, len: usize) -> Vec<f32> {
    vec![1.0; width * len]
}

#[test]
fn a_query_without_any_allowed_key_weighs_all_keys_alike_even_hidden_ones() {
    each_isa(|isa| {
        let q = ones(1, 2);
        let (k, v) = ([1.0, 5.0, 9.0], [3.0, 6.0, 9.0]);
        let row = AttentionRow {
            q: &q,
            k: &k,
            v: &v,
            q_len: 2,
            kv_len: 3,
            mask: Some(&[0, 0, 0]),
            causal_offset: Some(0),
            bias: None,
        };
        let mut out = [0.0; 2];
        attention(&[row], 1, 1, &mut [&mut out]).unwrap();
        assert_eq!(out, [6.0, 6.0], "{isa}");
        // The first query sees only key 0, which is masked; the second sees key 1.
        let row = AttentionRow { mask: Some(&[0, 1, 1]), ..row };
        attention(&[row], 1, 1, &mut [&mut out]).unwrap();
        assert_eq!(out, [6.0, 6.0], "{isa}");
    });
}

#[test]
fn rows_of_a_batch_have_their_own_lengths() {
    each_isa(|_| {
        let mut random = Random(9);
        let lengths = [(3, 9), (1, 2), (0, 4), (8, 8), (2, 0)];
        let data: Vec<_> =
            lengths.iter().map(|&(q, kv)| (random.vec(q * 32), random.vec(kv * 32), random.vec(kv * 32))).collect();
        let rows: Vec<_> = lengths
            .iter()
            .zip(&data)
            .map(|(&(q_len, kv_len), (q, k, v))| AttentionRow {
                q,
                k,
                v,
                q_len,
                kv_len,
                mask: None,
                causal_offset: None,
                bias: None,
            })
            .collect();
        let mut outs: Vec<Vec<f32>> = rows.iter().map(|row| vec![f32::NAN; row.q_len * 32]).collect();
        let mut parts: Vec<&mut [f32]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
        attention(&rows, 2, 16, &mut parts).unwrap();
        for (row, out) in rows.iter().zip(&outs) {
            assert_close(out, &reference::attention(row, 2, 16), 2e-6, "row");
        }
        assert_eq!(outs[4], vec![0.0; 64]);
    });
}

#[test]
fn scores_that_are_not_a_number_or_infinite_stay_in_their_query() {
    each_isa(|isa| {
        let mut q = ones(4, 3);
        q[5] = f32::NAN;
        let (k, v) = (ones(4, 3), ones(4, 3));
        let row =
            AttentionRow { q: &q, k: &k, v: &v, q_len: 3, kv_len: 3, mask: None, causal_offset: None, bias: None };
        let mut out = vec![0.0; 12];
        attention(&[row], 1, 4, &mut [&mut out]).unwrap();
        assert_eq!(out[..4], [1.0; 4], "{isa}");
        assert!(out[4..8].iter().all(|x| x.is_nan()), "{isa}");
        assert_eq!(out[8..], [1.0; 4], "{isa}");
    });
}

#[test]
fn biases_that_do_not_cover_every_distance_are_refused() {
    let (q, k) = (ones(1, 3), ones(1, 4));
    let with = |span: usize, zero: usize, causal: Option<usize>| {
        let values = vec![0.0; span];
        let bias = RelativeBias { values: &values, span, zero, q_start: 1 };
        let row = AttentionRow {
            q: &q,
            k: &k,
            v: &k,
            q_len: 3,
            kv_len: 4,
            mask: None,
            causal_offset: causal,
            bias: Some(bias),
        };
        attention(&[row], 1, 1, &mut [&mut [0.0; 3]])
    };
    // Distances run from -3 to 2.
    with(6, 3, None).unwrap();
    assert_eq!(with(6, 2, None).unwrap_err().code(), "INVALID_INPUT");
    assert_eq!(with(5, 3, None).unwrap_err().code(), "INVALID_INPUT");
    // Causal: no key after its query.
    with(4, 3, Some(1)).unwrap();
    assert!(with(3, 3, Some(1)).is_err());
    assert!(with(4, 3, Some(2)).is_err());
}

#[test]
fn wrong_lengths_are_refused() {
    let x = ones(4, 2);
    let row = AttentionRow { q: &x, k: &x, v: &x, q_len: 2, kv_len: 2, mask: None, causal_offset: None, bias: None };
    let mut out = ones(4, 2);
    attention(&[row], 2, 2, &mut [&mut out]).unwrap();
    let faults = [
        AttentionRow { q_len: 3, ..row },
        AttentionRow { kv_len: 3, ..row },
        AttentionRow { v: &x[1..], ..row },
        AttentionRow { mask: Some(&[1]), ..row },
        AttentionRow { q_len: usize::MAX, ..row },
    ];
    for fault in faults {
        assert!(attention(&[fault], 2, 2, &mut [&mut out]).is_err());
    }
    assert!(attention(&[row], 2, 2, &mut []).is_err());
    assert!(attention(&[row], usize::MAX, 2, &mut [&mut out]).is_err());
}
