//! T5's attention: unscaled scores plus relative bias, softmax, values; one pass, no score matrix.

use crate::error::{expect_len, product, KernelError};
use crate::linear::dot;
use crate::norm::softmax_row;
use crate::parallel::{self, Disjoint};

/// One row of a batch. Queries, keys and values are token-major `[len, heads * head_dim]`, as projections produce them.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub q_len: usize,
    pub kv_len: usize,
    /// `[kv_len]`, 0 for keys that are masked.
    pub mask: Option<&'a [u8]>,
    /// `Some(past)`: query `i` sees key `j` only if `j <= i + past`.
    pub causal_offset: Option<usize>,
    pub bias: Option<RelativeBias<'a>>,
}

/// Bias by distance: `bias(head, i, j) = values[head * span + zero + j - (q_start + i)]`.
#[derive(Debug, Clone, Copy)]
pub struct RelativeBias<'a> {
    /// `[heads, span]`
    pub values: &'a [f32],
    /// Number of distances kept per head.
    pub span: usize,
    /// Where in the span distance 0 stands.
    pub zero: usize,
    /// Position of the first query.
    pub q_start: usize,
}

impl RelativeBias<'_> {
    /// Fails unless every pair of query and visible key has its distance in the span.
    fn check(&self, row: &AttentionRow<'_>, heads: usize) -> Result<(), KernelError> {
        expect_len("relative bias elements", self.values.len(), product("relative bias", heads, self.span)?)?;
        if row.q_len == 0 || row.kv_len == 0 {
            return Ok(());
        }
        let last_query =
            self.q_start.checked_add(row.q_len - 1).ok_or(KernelError::TooLarge { what: "query position" })?;
        if last_query > self.zero {
            return Err(KernelError::Shape {
                what: "relative bias distances before 0",
                expected: last_query,
                found: self.zero,
            });
        }
        let last_key = match row.causal_offset {
            Some(past) => past.saturating_add(row.q_len - 1).min(row.kv_len - 1),
            None => row.kv_len - 1,
        };
        // The largest distance is that of the first query that sees the last key.
        let first_query = row.causal_offset.map_or(0, |past| last_key.saturating_sub(past));
        let past_zero = last_key.saturating_sub(self.q_start.saturating_add(first_query));
        if past_zero >= self.span.saturating_sub(self.zero) {
            return Err(KernelError::Shape {
                what: "relative bias distances from 0 up",
                expected: past_zero + 1,
                found: self.span.saturating_sub(self.zero),
            });
        }
        Ok(())
    }
}

impl<'a> AttentionRow<'a> {
    fn check(&self, heads: usize, width: usize) -> Result<(), KernelError> {
        expect_len("query elements", self.q.len(), product("queries", self.q_len, width)?)?;
        expect_len("key elements", self.k.len(), product("keys", self.kv_len, width)?)?;
        expect_len("value elements", self.v.len(), product("values", self.kv_len, width)?)?;
        if let Some(mask) = self.mask {
            expect_len("attention mask elements", mask.len(), self.kv_len)?;
        }
        match &self.bias {
            Some(bias) => bias.check(self, heads),
            None => Ok(()),
        }
    }

    /// Number of leading keys that causality lets query `i` see.
    fn visible(&self, i: usize) -> usize {
        match self.causal_offset {
            Some(past) => past.saturating_add(i).saturating_add(1).min(self.kv_len),
            None => self.kv_len,
        }
    }
}

/// `out = softmax(q · kᵀ + bias) · v` per head, without a `1/√d` scale, for each row of a batch; `out` has `[q_len,
/// heads * head_dim]` per row.
///
/// A query that may see no key at all weighs every key alike, as in the reference, which adds the lowest float
/// everywhere. A row without keys gives zeros.
pub fn attention(
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    out: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let width = product("heads * head_dim", heads, head_dim)?;
    expect_len("attention output rows", out.len(), rows.len())?;
    for (row, out) in rows.iter().zip(out.iter()) {
        row.check(heads, width)?;
        expect_len("attention output elements", out.len(), row.q.len())?;
    }
    for (row, out) in rows.iter().zip(out) {
        let out = Disjoint::new(out);
        parallel::for_each_range(heads, 1, |range| {
            let mut scores = vec![0.0; row.kv_len];
            for head in range {
                for query in 0..row.q_len {
                    let start = query * width + head * head_dim;
                    // SAFETY: each (query, head) belongs to one range.
                    let out = unsafe { out.slice(start..start + head_dim) };
                    attend(row, head, query, width, &mut scores, out);
                }
            }
        });
    }
    Ok(())
}

fn attend(row: &AttentionRow<'_>, head: usize, query: usize, width: usize, scores: &mut [f32], out: &mut [f32]) {
    let head_dim = out.len();
    let of = |x: &'_ [f32], token: usize| -> std::ops::Range<usize> {
        debug_assert!(token * width < x.len());
        token * width + head * head_dim..token * width + (head + 1) * head_dim
    };
    let q = &row.q[of(row.q, query)];
    let visible = row.visible(query);
    let mut any = false;
    for (j, score) in scores.iter_mut().enumerate() {
        if j >= visible || row.mask.is_some_and(|mask| mask[j] == 0) {
            *score = f32::NEG_INFINITY;
            continue;
        }
        any = true;
        *score = dot(q, &row.k[of(row.k, j)]);
        if let Some(bias) = &row.bias {
            *score += bias.values[head * bias.span + bias.zero + j - (bias.q_start + query)];
        }
    }
    if !any {
        scores.fill(0.0);
    }
    softmax_row(scores);
    out.fill(0.0);
    for (j, &p) in scores.iter().enumerate() {
        if p != 0.0 {
            for (out, v) in out.iter_mut().zip(&row.v[of(row.v, j)]) {
                *out += p * v;
            }
        }
    }
}
