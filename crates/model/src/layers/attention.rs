//! Self- and cross-attention (reference: `SwitchTransformersAttention`), over fresh keys and values or a cache.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use switch_kernels::training::Dropout;

use super::BiasSpan;
use crate::cache::{LayerCache, Segment};
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::ops::{self, buffers, CachedRow, RowSpan};
use crate::parameters::Parameters;
use crate::rows::Rows;
use crate::weight::Weight;

pub struct Attention {
    q: Weight,
    k: Weight,
    v: Weight,
    o: Weight,
    heads: usize,
    inner: usize,
}

/// One layer's keys and values of the encoder's output, `[tokens, inner]`, computed once per input.
#[derive(Clone)]
pub struct CrossKeyValues {
    pub keys: Tensor,
    pub values: Tensor,
}

/// Which encoder row each decoder row reads.
pub struct CrossRows<'a> {
    pub encoder_rows: &'a Rows,
    pub row_of: &'a [usize],
}

/// One layer of a cache, and what is fed to it.
pub struct HeldLayer<'a> {
    pub segments: &'a [Segment],
    /// By slot.
    pub caches: &'a mut [LayerCache],
    /// By slot, over the tokens held.
    pub masks: &'a [Option<Vec<u8>>],
    /// In the place of `caches`, on a CUDA device.
    #[cfg(feature = "cuda")]
    pub device: Option<&'a crate::cuda::DeviceLayer>,
}

impl Attention {
    pub fn build(config: &SwitchTransformersConfig, parameters: &Parameters, prefix: &str) -> Result<Self> {
        let get = |name: &str| parameters.get(&format!("{prefix}.{name}.weight"));
        Ok(Self {
            q: get("q")?,
            k: get("k")?,
            v: get("v")?,
            o: get("o")?,
            heads: config.num_heads,
            inner: config.inner_dim(),
        })
    }

    /// Self-attention of `x` `[tokens, d_model]` within each row.
    pub fn forward(
        &self,
        x: &Tensor,
        rows: &Rows,
        causal: bool,
        bias: &Arc<BiasSpan>,
        dropout: Dropout,
        weights: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let [q, k, v] = ops::linears(x, [&self.q, &self.k, &self.v])?;
        let spans: Vec<RowSpan<'_>> = rows
            .spans()
            .map(|(start, len)| RowSpan {
                q_start: start,
                q_len: len,
                kv_start: start,
                kv_len: len,
                mask: rows.row_mask(start, len),
                causal_offset: causal.then_some(0),
            })
            .collect();
        let y = self.attend(&q, &k, &v, &spans, Some(bias), dropout, weights)?;
        [q, k, v].into_iter().for_each(buffers::recycle);
        Ok(y)
    }

    /// Keys and values of the encoder's output for cross-attention.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> Result<CrossKeyValues> {
        let [keys, values] = ops::linears(encoder_hidden_states, [&self.k, &self.v])?;
        Ok(CrossKeyValues { keys, values })
    }

    /// What keys and what values are made by.
    pub fn key_value_weights(&self) -> [&Weight; 2] {
        [&self.k, &self.v]
    }

    /// Cross-attention of decoder rows to their encoder rows.
    pub fn cross(
        &self,
        x: &Tensor,
        rows: &Rows,
        cross: &CrossRows<'_>,
        key_values: &CrossKeyValues,
        dropout: Dropout,
        weights: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let q = ops::linear(x, &self.q)?;
        let mut spans = Vec::with_capacity(rows.count());
        for (row, (q_start, q_len)) in rows.spans().enumerate() {
            let encoder_row =
                *cross.row_of.get(row).ok_or_else(|| ModelError::internal("a row without an encoder row"))?;
            let (kv_start, kv_len) = cross.encoder_rows.span(encoder_row)?;
            let mask = cross.encoder_rows.row_mask(kv_start, kv_len);
            spans.push(RowSpan { q_start, q_len, kv_start, kv_len, mask, causal_offset: None });
        }
        let y = self.attend(&q, &key_values.keys, &key_values.values, &spans, None, dropout, weights)?;
        buffers::recycle(q);
        Ok(y)
    }

    /// Causal self-attention that appends to each segment's cache first.
    pub fn cached(
        &self,
        x: &Tensor,
        rows: &Rows,
        held: HeldLayer<'_>,
        bias: &BiasSpan,
        weights: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let HeldLayer { segments, caches, masks, .. } = held;
        let [q, k, v] = ops::linears(x, [&self.q, &self.k, &self.v])?;
        #[cfg(feature = "cuda")]
        if let Some(layer) = held.device {
            return self.cached_on_cuda(&q, &k, &v, rows, (segments, layer, masks), bias, weights);
        }
        ops::on_values(&k, |k| {
            ops::on_values(&v, |v| {
                for (segment, (start, len)) in segments.iter().zip(rows.spans()) {
                    let part = start * self.inner..(start + len) * self.inner;
                    match (caches.get_mut(segment.slot), k.get(part.clone()), v.get(part)) {
                        (Some(cache), Some(k), Some(v)) => cache.append(k, v),
                        _ => return Err(candle_core::Error::Msg("no such cache slot or token".into())),
                    }
                }
                Ok(())
            })
        })?;
        let mut cached = Vec::with_capacity(segments.len());
        for (segment, (q_start, q_len)) in segments.iter().zip(rows.spans()) {
            let cache = &caches[segment.slot];
            cached.push(CachedRow {
                q_start,
                q_len,
                keys: cache.keys(),
                values: cache.values(),
                mask: masks.get(segment.slot).and_then(Option::as_deref),
                causal_offset: Some(segment.past),
            });
        }
        let table = Some(bias);
        if let Some(record) = weights {
            let queries = q.flatten_all()?.to_vec1::<f32>()?;
            let mut layer = Vec::with_capacity(cached.len());
            for row in &cached {
                let q = &queries[row.q_start * self.inner..(row.q_start + row.q_len) * self.inner];
                layer.push(self.row_weights(q, row.keys, row.mask, row.causal_offset, table)?);
            }
            record.push(layer);
        }
        let y = ops::cached_attention(&q, &cached, self.heads, table)?;
        [q, k, v].into_iter().for_each(buffers::recycle);
        let out = ops::linear(&y, &self.o)?;
        buffers::recycle(y);
        Ok(out)
    }

    #[cfg(feature = "cuda")]
    #[allow(clippy::too_many_arguments)] // attention's own inputs
    fn cached_on_cuda(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        rows: &Rows,
        (segments, layer, masks): (&[Segment], &crate::cuda::DeviceLayer, &[Option<Vec<u8>>]),
        bias: &BiasSpan,
        weights: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let y = crate::cuda::cached(q, k, v, layer, segments, rows, masks, self.heads, bias)?;
        if let Some(record) = weights {
            let (queries, keys) = (q.flatten_all()?.to_vec1::<f32>()?, layer.keys_on_host()?);
            let mut recorded = Vec::with_capacity(segments.len());
            for (segment, (start, len)) in segments.iter().zip(rows.spans()) {
                let q = &queries[start * self.inner..(start + len) * self.inner];
                let first = segment.slot * layer.capacity * self.inner;
                let k = &keys[first..first + (segment.past + segment.len) * self.inner];
                let mask = masks.get(segment.slot).and_then(Option::as_deref);
                recorded.push(self.row_weights(q, k, mask, Some(segment.past), Some(bias))?);
            }
            record.push(recorded);
        }
        ops::linear(&y, &self.o)
    }

    #[allow(clippy::too_many_arguments)] // attention's own inputs
    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        spans: &[RowSpan<'_>],
        bias: Option<&Arc<BiasSpan>>,
        dropout: Dropout,
        weights: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let table = bias.map(Arc::as_ref);
        if let Some(record) = weights {
            let (queries, keys) = (q.flatten_all()?.to_vec1::<f32>()?, k.flatten_all()?.to_vec1::<f32>()?);
            let mut layer = Vec::with_capacity(spans.len());
            for s in spans {
                let q = &queries[s.q_start * self.inner..(s.q_start + s.q_len) * self.inner];
                let k = &keys[s.kv_start * self.inner..(s.kv_start + s.kv_len) * self.inner];
                layer.push(self.row_weights(q, k, s.mask, s.causal_offset, table)?);
            }
            record.push(layer);
        }
        let y = match ops::tracked(q) || dropout.rate > 0.0 {
            true => ops::trained_attention(q, k, v, spans, self.heads, bias, dropout)?,
            false => ops::attention(q, k, v, spans, self.heads, table, self.q.precision())?,
        };
        let out = ops::linear(&y, &self.o)?;
        buffers::recycle(y);
        Ok(out)
    }

    fn row_weights(
        &self,
        q: &[f32],
        k: &[f32],
        mask: Option<&[u8]>,
        causal_offset: Option<usize>,
        bias: Option<&BiasSpan>,
    ) -> Result<Tensor> {
        let weights = ops::attention_weights(q, k, self.heads, self.inner, mask, causal_offset, bias)?;
        let dims = (self.heads, q.len() / self.inner, k.len() / self.inner);
        Ok(Tensor::from_vec(weights, dims, &Device::Cpu)?)
    }
}
