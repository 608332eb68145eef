//! Attention with dropout on its probabilities and a way back to queries, keys, values and the position bias.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use switch_kernels::training::Dropout;
use switch_kernels::{AttentionRow, RelativeBias};

use super::attention::{part, RowSpan};
use super::tape::{apply3, Keep};
use super::{buffers, flat_dims, kernel_error, model_error, on_values, values};
use crate::error::{ModelError, Result};
use crate::layers::BiasSpan;

/// A [`RowSpan`] that lives as long as the graph.
struct Span {
    q_start: usize,
    q_len: usize,
    kv_start: usize,
    kv_len: usize,
    mask: Option<Vec<u8>>,
    causal_offset: Option<usize>,
}

struct TrainedAttention {
    spans: Vec<Span>,
    heads: usize,
    bias: Option<Arc<BiasSpan>>,
    dropout: Dropout,
    /// The logarithm of each query's sum of exponentials, `[heads, q_len]` per row.
    log_sums: Mutex<Vec<Vec<f32>>>,
    /// The same on a CUDA device, `[tokens, heads]`.
    #[cfg(feature = "cuda")]
    device_sums: Mutex<Option<crate::cuda::Buffer<f32>>>,
}

impl TrainedAttention {
    #[cfg(feature = "cuda")]
    fn row_spans(&self) -> Vec<RowSpan<'_>> {
        let spans = self.spans.iter();
        spans
            .map(|s| {
                let Span { q_start, q_len, kv_start, kv_len, ref mask, causal_offset } = *s;
                RowSpan { q_start, q_len, kv_start, kv_len, mask: mask.as_deref(), causal_offset }
            })
            .collect()
    }

    fn rows<'a>(
        &'a self,
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        inner: usize,
    ) -> candle_core::Result<Vec<AttentionRow<'a>>> {
        self.spans
            .iter()
            .map(|s| {
                Ok(AttentionRow {
                    q: part(q, s.q_start, s.q_len, inner)?,
                    k: part(k, s.kv_start, s.kv_len, inner)?,
                    v: part(v, s.kv_start, s.kv_len, inner)?,
                    q_len: s.q_len,
                    kv_len: s.kv_len,
                    mask: s.mask.as_deref(),
                    causal_offset: s.causal_offset,
                    bias: self.bias.as_deref().map(|b| RelativeBias {
                        values: &b.values,
                        span: b.span,
                        zero: b.zero,
                        q_start: s.causal_offset.unwrap_or(0),
                    }),
                })
            })
            .collect()
    }

    fn lens(&self) -> (Vec<usize>, Vec<usize>) {
        (self.spans.iter().map(|s| s.q_len).collect(), self.spans.iter().map(|s| s.kv_len).collect())
    }
}

/// `all` in parts of `lens` times `inner` values, one after another.
fn split<'a>(mut all: &'a mut [f32], lens: &[usize], inner: usize) -> candle_core::Result<Vec<&'a mut [f32]>> {
    let mut parts = Vec::with_capacity(lens.len());
    for len in lens {
        if len * inner > all.len() {
            return Err(candle_core::Error::Msg("attention rows exceed their tensor".into()));
        }
        let (head, tail) = all.split_at_mut(len * inner);
        parts.push(head);
        all = tail;
    }
    Ok(parts)
}

impl CustomOp3 for TrainedAttention {
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
        let rows = self.rows(q, k, v, inner)?;
        let mut out = buffers::take(q.len()).map_err(model_error)?;
        let mut log_sums: Vec<Vec<f32>> = self.spans.iter().map(|s| vec![0f32; self.heads * s.q_len]).collect();
        {
            let mut parts = split(&mut out, &self.lens().0, inner)?;
            let mut sums: Vec<&mut [f32]> = log_sums.iter_mut().map(Vec::as_mut_slice).collect();
            let dim = inner / self.heads.max(1);
            switch_kernels::training::attention_train(&rows, self.heads, dim, &self.dropout, &mut parts, &mut sums)
                .map_err(kernel_error)?;
        }
        *self.log_sums.lock().unwrap_or_else(PoisonError::into_inner) = log_sums;
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
        let operands = [(s1, l1), (s2, l2), (s3, l3)];
        let (bias, rows) = (self.bias.as_deref(), self.row_spans());
        let (y, shape, sums) = crate::cuda::attend_train(&rows, self.heads, bias, &self.dropout, operands)?;
        *self.device_sums.lock().unwrap_or_else(PoisonError::into_inner) = Some(sums);
        Ok((y, shape))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if let Some(lse) = self.device_sums.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let [q, k, v] = crate::cuda::attend_backward(&crate::cuda::AttendBack {
                rows: &self.row_spans(),
                heads: self.heads,
                bias: self.bias.as_deref(),
                dropout: &self.dropout,
                lse: &lse,
                operands: [q, k, v],
                out,
                gradient,
            })?;
            return Ok((Some(q), Some(k), Some(v)));
        }
        let inner = q.dim(1)?;
        let (q_lens, kv_lens) = self.lens();
        let log_sums = self.log_sums.lock().unwrap_or_else(PoisonError::into_inner);
        let log_sums: Vec<&[f32]> = log_sums.iter().map(Vec::as_slice).collect();
        let mut dq = buffers::take(q.elem_count()).map_err(model_error)?;
        let mut dk = buffers::take(k.elem_count()).map_err(model_error)?;
        let mut dv = buffers::take(v.elem_count()).map_err(model_error)?;
        let learned = self.bias.as_ref().filter(|b| b.learns());
        let mut dbias = learned.map(|b| vec![0f32; b.values.len()]);
        on_values(q, |q| {
            on_values(k, |k| {
                on_values(v, |v| {
                    on_values(out, |out| {
                        on_values(gradient, |gradient| {
                            let rows = self.rows(q, k, v, inner)?;
                            let outs = self
                                .spans
                                .iter()
                                .map(|s| part(out, s.q_start, s.q_len, inner))
                                .collect::<candle_core::Result<Vec<_>>>()?;
                            let gradients = self
                                .spans
                                .iter()
                                .map(|s| part(gradient, s.q_start, s.q_len, inner))
                                .collect::<candle_core::Result<Vec<_>>>()?;
                            switch_kernels::training::attention_backward(
                                &rows,
                                self.heads,
                                inner / self.heads.max(1),
                                &self.dropout,
                                &outs,
                                &log_sums,
                                &gradients,
                                &mut split(&mut dq, &q_lens, inner)?,
                                &mut split(&mut dk, &kv_lens, inner)?,
                                &mut split(&mut dv, &kv_lens, inner)?,
                                dbias.as_deref_mut(),
                            )
                            .map_err(kernel_error)
                        })
                    })
                })
            })
        })?;
        if let (Some(bias), Some(dbias)) = (learned, dbias) {
            bias.add_gradient(&dbias).map_err(model_error)?;
        }
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape().clone(), like.device());
        Ok((Some(tensor(dq, q)?), Some(tensor(dk, k)?), Some(tensor(dv, v)?)))
    }
}

/// As `attention`, tracked. Rows lie one after another in queries, keys and values, each with keys of its own.
pub fn trained_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[RowSpan<'_>],
    heads: usize,
    bias: Option<&Arc<BiasSpan>>,
    dropout: Dropout,
) -> Result<Tensor> {
    flat_dims(q)?;
    let (mut next_q, mut next_kv) = (0, 0);
    let mut owned = Vec::with_capacity(spans.len());
    for s in spans {
        if (s.q_start, s.kv_start) != (next_q, next_kv) {
            return Err(ModelError::internal("rows that share keys, or leave some out, have no gradient"));
        }
        next_q += s.q_len;
        next_kv += s.kv_len;
        owned.push(Span {
            q_start: s.q_start,
            q_len: s.q_len,
            kv_start: s.kv_start,
            kv_len: s.kv_len,
            mask: s.mask.map(<[u8]>::to_vec),
            causal_offset: s.causal_offset,
        });
    }
    let op = TrainedAttention {
        spans: owned,
        heads,
        bias: bias.cloned(),
        dropout,
        log_sums: Mutex::default(),
        #[cfg(feature = "cuda")]
        device_sums: Mutex::default(),
    };
    apply3(q, k, v, op, Keep::InputsAndResult)
}
