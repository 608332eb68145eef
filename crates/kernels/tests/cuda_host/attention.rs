use switch_kernels::cuda::{attention, Attention, Span};
use switch_kernels::{reference, AttentionRow, RelativeBias};

use crate::host::{at, each_order, out};
use crate::support::{assert_close, Random};

/// (queries, keys, mask, causal offset) of a row.
pub type Row = (usize, usize, Option<Vec<u8>>, Option<usize>);

pub struct Case {
    pub rows: Vec<Row>,
    pub spans: Vec<Span>,
    pub words: Vec<i32>,
    pub masks: Vec<u8>,
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub bias: Vec<f32>,
    pub span: usize,
    pub zero: usize,
    pub heads: usize,
    pub dim: usize,
}

impl Case {
    pub fn new(rows: Vec<Row>, heads: usize, dim: usize) -> Self {
        let mut random = Random(rows.len() as u64 * 100 + dim as u64);
        let (mut spans, mut masks, mut q_start, mut kv_start) = (Vec::new(), Vec::new(), 0, 0);
        for (q_len, kv_len, mask, causal_offset) in &rows {
            let mask_start = mask.as_ref().map(|mask| {
                masks.extend_from_slice(mask);
                masks.len() - mask.len()
            });
            let causal_offset = *causal_offset;
            spans.push(Span { q_start, q_len: *q_len, kv_start, kv_len: *kv_len, mask_start, causal_offset });
            q_start += q_len;
            kv_start += kv_len;
        }
        let words = spans.iter().flat_map(|span| span.words().unwrap()).collect();
        let reach = 1 + spans.iter().map(|s| s.kv_len.max(s.causal_offset.unwrap_or(0) + s.q_len)).max().unwrap();
        let (span, zero) = (2 * reach - 1, reach - 1);
        let width = heads * dim;
        let (q, k, v) = (random.vec(q_start * width), random.vec(kv_start * width), random.vec(kv_start * width));
        Self { rows, spans, words, masks, q, k, v, bias: random.vec(heads * span), span, zero, heads, dim }
    }

    pub fn operands(&self, out: u64, lse: u64, with_bias: bool) -> Attention {
        Attention {
            q: at(&self.q),
            k: at(&self.k),
            v: at(&self.v),
            out,
            lse,
            spans: at(&self.words),
            masks: at(&self.masks),
            bias: if with_bias { at(&self.bias) } else { 0 },
            kv_stride: self.heads * self.dim,
            q_stride: self.heads * self.dim,
            heads: self.heads,
            head_dim: self.dim,
            span: self.span,
            zero: self.zero,
            ..Attention::default()
        }
    }

    fn check(&self) {
        for with_bias in [false, true] {
            let found = each_order(
                || vec![f32::NAN; self.q.len()],
                |launches, y| attention(launches, &self.operands(out(y), 0, with_bias), &self.spans).unwrap(),
                |y| y,
            );
            let width = self.heads * self.dim;
            let mut expected = Vec::new();
            for (span, (_, _, mask, causal_offset)) in self.spans.iter().zip(&self.rows) {
                let keys = span.kv_start * width..(span.kv_start + span.kv_len) * width;
                let bias = RelativeBias {
                    values: &self.bias,
                    span: self.span,
                    zero: self.zero,
                    q_start: causal_offset.unwrap_or(0),
                };
                let row = AttentionRow {
                    q: &self.q[span.q_start * width..(span.q_start + span.q_len) * width],
                    k: &self.k[keys.clone()],
                    v: &self.v[keys],
                    q_len: span.q_len,
                    kv_len: span.kv_len,
                    mask: mask.as_deref(),
                    causal_offset: *causal_offset,
                    bias: with_bias.then_some(bias),
                };
                expected.extend(reference::attention(&row, self.heads, self.dim));
            }
            let lens: Vec<_> = self.rows.iter().map(|row| (row.0, row.1)).collect();
            assert_close(&found, &expected, 1e-6, &format!("attention {lens:?}, {} of {}", self.heads, self.dim));
        }
    }
}

fn mask(random: &mut Random, keys: usize) -> Option<Vec<u8>> {
    Some((0..keys).map(|_| u8::from(random.below(3) != 0)).collect())
}

#[test]
fn ragged_rows_with_masks_and_causality() {
    let mut random = Random(3);
    for (heads, dim) in [(3, 8), (2, 40), (1, 128), (2, 64)] {
        let rows = vec![
            (5, 5, None, None),
            (70, 70, mask(&mut random, 70), None),
            (33, 40, None, Some(7)),
            (40, 33, mask(&mut random, 33), None),
            (9, 9, mask(&mut random, 9), Some(0)),
            (1, 70, None, Some(69)),
        ];
        Case::new(rows, heads, dim).check();
    }
}

#[test]
fn queries_that_see_nothing_weigh_every_key_alike() {
    let first_hidden = |keys: usize| Some((0..keys).map(|j| u8::from(j > 3)).collect::<Vec<u8>>());
    Case::new(vec![(6, 6, Some(vec![0; 6]), None), (40, 40, first_hidden(40), Some(0)), (3, 0, None, None)], 2, 16)
        .check();
    Case::new(vec![(1, 6, Some(vec![0; 6]), Some(5)), (1, 0, None, None), (1, 3, Some(vec![0, 0, 1]), Some(0))], 2, 16)
        .check();
}

#[test]
fn one_query_a_row_against_a_cache() {
    let mut random = Random(4);
    for (heads, dim) in [(4, 64), (2, 24), (1, 128)] {
        let rows = vec![(1, 1, None, Some(0)), (1, 130, mask(&mut random, 130), Some(129)), (1, 37, None, None)];
        Case::new(rows, heads, dim).check();
    }
}
