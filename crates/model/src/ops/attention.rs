//! Attention over ragged rows: fresh keys and values as tensors (differentiable), or a row's cache.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Shape, Tensor};
use switch_kernels::{AttentionRow, Precision, RelativeBias};

use super::{buffers, flat_dims, kernel_error, model_error, values};
use crate::error::{ModelError, Result};
use crate::layers::BiasSpan;
use crate::weight::try_zeros;

/// Where one row's queries and keys lie in the flat tensors, and what they may see.
#[derive(Debug, Clone, Copy)]
pub struct RowSpan<'a> {
    pub q_start: usize,
    pub q_len: usize,
    pub kv_start: usize,
    pub kv_len: usize,
    /// One byte a key, 0 = masked.
    pub mask: Option<&'a [u8]>,
    /// `Some(past)`: query `i` sees keys `0..=past + i`.
    pub causal_offset: Option<usize>,
}

/// One row's queries against its own cache. `keys` and `values` are `[kv_len, heads * head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct CachedRow<'a> {
    pub q_start: usize,
    pub q_len: usize,
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub mask: Option<&'a [u8]>,
    pub causal_offset: Option<usize>,
}

/// A relative position bias for a whole stack; each row adds where its queries start.
pub type BiasTable<'a> = Option<&'a BiasSpan>;

struct Attention<'a> {
    precision: Precision,
    spans: &'a [RowSpan<'a>],
    heads: usize,
    bias: BiasTable<'a>,
}

pub(super) fn part(all: &[f32], start: usize, len: usize, width: usize) -> candle_core::Result<&[f32]> {
    all.get(start * width..(start + len) * width)
        .ok_or_else(|| candle_core::Error::Msg("a row lies outside its tensor".into()))
}

fn row_bias<'a>(bias: BiasTable<'a>, causal_offset: Option<usize>) -> Option<RelativeBias<'a>> {
    let q_start = causal_offset.unwrap_or(0);
    bias.map(|b| RelativeBias { values: &b.values, span: b.span, zero: b.zero, q_start })
}

/// Runs the kernel over `rows`, whose outputs lie one after another in the order of `rows`.
fn run(
    precision: Precision,
    rows: &[AttentionRow<'_>],
    heads: usize,
    inner: usize,
    out: &mut [f32],
) -> candle_core::Result<()> {
    if heads == 0 || !inner.is_multiple_of(heads) {
        return Err(candle_core::Error::Msg(format!("{inner} features do not split into {heads} heads")));
    }
    let mut parts = Vec::with_capacity(rows.len());
    let mut rest = out;
    for row in rows {
        let len = row.q_len * inner;
        if len > rest.len() {
            return Err(candle_core::Error::Msg("attention rows exceed the queries".into()));
        }
        let (head, tail) = rest.split_at_mut(len);
        parts.push(head);
        rest = tail;
    }
    rest.fill(0.0);
    switch_kernels::attention_with(precision, rows, heads, inner / heads, &mut parts).map_err(kernel_error)
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "switch-attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (q, k, v) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let inner = l1.shape().dims2()?.1;
        let rows = self
            .spans
            .iter()
            .map(|s| {
                Ok(AttentionRow {
                    q: part(q, s.q_start, s.q_len, inner)?,
                    k: part(k, s.kv_start, s.kv_len, inner)?,
                    v: part(v, s.kv_start, s.kv_len, inner)?,
                    q_len: s.q_len,
                    kv_len: s.kv_len,
                    mask: s.mask,
                    causal_offset: s.causal_offset,
                    bias: row_bias(self.bias, s.causal_offset),
                })
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let mut out = buffers::take(q.len()).map_err(model_error)?;
        run(self.precision, &rows, self.heads, inner, &mut out)?;
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
        s3: &candle_core::CudaStorage,
        l3: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::attend(self.spans, self.heads, self.bias, [(s1, l1), (s2, l2), (s3, l3)])
    }
}

/// `softmax(q·kᵀ + bias)·v`, unscaled, per row and head. `spans` must be in the order of the queries and cover them.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[RowSpan<'_>],
    heads: usize,
    bias: BiasTable<'_>,
    precision: Precision,
) -> Result<Tensor> {
    flat_dims(q)?;
    Ok(q.apply_op3_no_bwd(k, v, &Attention { precision, spans, heads, bias })?)
}

struct Cached<'a> {
    rows: &'a [CachedRow<'a>],
    heads: usize,
    bias: BiasTable<'a>,
}

impl CustomOp1 for Cached<'_> {
    fn name(&self) -> &'static str {
        "switch-cached-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let q = values(storage, layout)?;
        let inner = layout.shape().dims2()?.1;
        let rows = self
            .rows
            .iter()
            .map(|r| {
                Ok(AttentionRow {
                    q: part(q, r.q_start, r.q_len, inner)?,
                    k: r.keys,
                    v: r.values,
                    q_len: r.q_len,
                    kv_len: r.keys.len() / inner.max(1),
                    mask: r.mask,
                    causal_offset: r.causal_offset,
                    bias: row_bias(self.bias, r.causal_offset),
                })
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let mut out = buffers::take(q.len()).map_err(model_error)?;
        run(Precision::Float32, &rows, self.heads, inner, &mut out)?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// The same against each row's cache.
pub fn cached_attention(q: &Tensor, rows: &[CachedRow<'_>], heads: usize, bias: BiasTable<'_>) -> Result<Tensor> {
    flat_dims(q)?;
    Ok(q.apply_op1_no_bwd(&Cached { rows, heads, bias })?)
}

/// The attention probabilities of one row, `[heads, q_len, kv_len]`: asked for by `output_attentions` only, so plain.
/// `q` `[q_len, inner]`, `k` `[kv_len, inner]`.
pub fn attention_weights(
    q: &[f32],
    k: &[f32],
    heads: usize,
    inner: usize,
    mask: Option<&[u8]>,
    causal_offset: Option<usize>,
    bias: BiasTable<'_>,
) -> Result<Vec<f32>> {
    let dim = inner.checked_div(heads).filter(|d| *d > 0).ok_or_else(|| ModelError::internal("no heads"))?;
    let (q_len, kv_len) = (q.len() / inner, k.len() / inner);
    let mut weights = try_zeros(heads * q_len * kv_len)?;
    if kv_len == 0 {
        return Ok(weights);
    }
    for (index, scores) in weights.chunks_exact_mut(kv_len).enumerate() {
        let (h, i) = (index / q_len, index % q_len);
        let query = &q[i * inner + h * dim..][..dim];
        let past = causal_offset.unwrap_or(0);
        let mut seen = false;
        for (j, score) in scores.iter_mut().enumerate() {
            let allowed = mask.is_none_or(|m| m.get(j) != Some(&0)) && causal_offset.is_none_or(|past| j <= past + i);
            if !allowed {
                *score = f32::NEG_INFINITY;
                continue;
            }
            seen = true;
            let key = &k[j * inner + h * dim..][..dim];
            *score = query.iter().zip(key).map(|(a, b)| a * b).sum();
            if let Some(bias) = bias {
                let index = (h * bias.span + bias.zero + j).checked_sub(past + i);
                *score += index.and_then(|at| bias.values.get(at)).copied().unwrap_or(0.0);
            }
        }
        if seen {
            switch_kernels::softmax_rows(scores, kv_len)?;
        } else {
            // The reference adds the same lowest value to every score: each key weighs the same.
            scores.fill(1.0 / kv_len as f32);
        }
    }
    Ok(weights)
}
