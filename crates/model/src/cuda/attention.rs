//! Attention on a device, over fresh keys and values or a cache.

use candle_core::cuda_backend::CudaDevice;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Shape, Storage, Tensor};
use switch_kernels::cuda::{attention, scatter_rows, Address, Attention, Launches, Span};
use switch_kernels::Values;

use super::cache::DeviceLayer;
use super::experts::storage_device;
use super::run::{floats, model_error, run, wrap, Buffer};
use crate::cache::Segment;
use crate::error::{ModelError, Result};
use crate::layers::BiasSpan;
use crate::ops::RowSpan;
use crate::rows::Rows;

/// What the launches of one attention read, beside its operands.
struct Shared<'a> {
    spans: Vec<Span>,
    masks: Vec<u8>,
    heads: usize,
    inner: usize,
    bias: Option<&'a BiasSpan>,
}

impl Shared<'_> {
    /// Adds a row, with its mask.
    fn push(&mut self, span: Span, mask: Option<&[u8]>) {
        let mask_start = mask.map(|_| self.masks.len());
        self.masks.extend_from_slice(mask.unwrap_or_default());
        self.spans.push(Span { mask_start, ..span });
    }

    /// Enqueues `launches` and the attention after them.
    fn run(
        &self,
        device: &CudaDevice,
        mut launches: Launches,
        [q, k, v]: [Address; 3],
        out: &Buffer<f32>,
    ) -> candle_core::Result<()> {
        let kernel = |e: switch_kernels::KernelError| model_error(e.into());
        if self.heads == 0 || !self.inner.is_multiple_of(self.heads) {
            let message = format!("{} features do not split into {} heads", self.inner, self.heads);
            return Err(model_error(ModelError::internal(message)));
        }
        let mut words = Vec::with_capacity(self.spans.len() * 8);
        for span in &self.spans {
            words.extend(span.words().map_err(kernel)?);
        }
        let (words, masks) = (Buffer::from_host(device, &words)?, Buffer::from_host(device, &self.masks)?);
        let bias = match self.bias {
            Some(bias) => bias.cuda_copy().address(device, Values::F32(&bias.values))?,
            None => 0,
        };
        let p = Attention {
            q,
            k,
            v,
            out: out.address(),
            lse: 0,
            spans: words.address(),
            masks: masks.address(),
            bias,
            kv_stride: self.inner,
            q_stride: self.inner,
            heads: self.heads,
            head_dim: self.inner / self.heads,
            span: self.bias.map_or(0, |bias| bias.span),
            zero: self.bias.map_or(0, |bias| bias.zero),
        };
        attention(&mut launches, &p, &self.spans).map_err(kernel)?;
        run(device, &launches).map_err(model_error)
    }
}

/// The op's forward: queries, keys and values as storages.
pub fn attend(
    rows: &[RowSpan<'_>],
    heads: usize,
    bias: Option<&BiasSpan>,
    operands: [(&CudaStorage, &Layout); 3],
) -> candle_core::Result<(CudaStorage, Shape)> {
    let [(q, q_layout), (_, k_layout), (_, v_layout)] = operands;
    let device = storage_device(q);
    let (queries, inner) = q_layout.shape().dims2()?;
    let keys = k_layout.shape().dims2()?.0.min(v_layout.shape().dims2()?.0);
    let mut shared = Shared { spans: Vec::with_capacity(rows.len()), masks: Vec::new(), heads, inner, bias };
    for row in rows {
        if row.q_start + row.q_len > queries || row.kv_start + row.kv_len > keys {
            return Err(candle_core::Error::Msg("a row lies outside its tensor".into()));
        }
        let span = Span {
            q_start: row.q_start,
            q_len: row.q_len,
            kv_start: row.kv_start,
            kv_len: row.kv_len,
            mask_start: None,
            causal_offset: row.causal_offset,
        };
        shared.push(span, row.mask.filter(|mask| mask.len() == row.kv_len));
    }
    let out = Buffer::<f32>::new(&device, queries * inner)?;
    let mut addresses = [0; 3];
    for (address, (storage, layout)) in addresses.iter_mut().zip(operands) {
        *address = floats(storage, layout)?;
    }
    shared.run(&device, Launches::new(), addresses, &out)?;
    Ok(wrap(out, &device, q_layout.shape().clone()))
}

/// Appends keys and values `[tokens, inner]` to their slots and attends over what these then hold.
#[allow(clippy::too_many_arguments)] // attention's own inputs
pub fn cached(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    layer: &DeviceLayer,
    segments: &[Segment],
    rows: &Rows,
    masks: &[Option<Vec<u8>>],
    heads: usize,
    bias: &BiasSpan,
) -> Result<Tensor> {
    let (tokens, inner) = q.dims2()?;
    let mut shared =
        Shared { spans: Vec::with_capacity(segments.len()), masks: Vec::new(), heads, inner, bias: Some(bias) };
    let mut places = Vec::with_capacity(tokens);
    for (segment, (q_start, q_len)) in segments.iter().zip(rows.spans()) {
        let (kv_start, kv_len) = (segment.slot * layer.capacity, segment.past + segment.len);
        if kv_len > layer.capacity {
            return Err(ModelError::internal("a slot's cache is too small"));
        }
        for i in 0..q_len {
            places.push(i32::try_from(kv_start + segment.past + i).unwrap_or(i32::MAX));
        }
        let causal_offset = Some(segment.past);
        let span = Span { q_start, q_len, kv_start, kv_len, mask_start: None, causal_offset };
        let mask = masks.get(segment.slot).and_then(Option::as_deref).filter(|mask| mask.len() == kv_len);
        shared.push(span, mask);
    }
    let (q_storage, q_layout) = q.storage_and_layout();
    let (k_storage, k_layout) = k.storage_and_layout();
    let (v_storage, v_layout) = v.storage_and_layout();
    let (Storage::Cuda(q_cuda), Storage::Cuda(k_cuda), Storage::Cuda(v_cuda)) = (&*q_storage, &*k_storage, &*v_storage)
    else {
        return Err(ModelError::internal("a cache on CUDA for activations elsewhere"));
    };
    let device = storage_device(q_cuda);
    let places = Buffer::from_host(&device, &places)?;
    let out = Buffer::<f32>::new(&device, tokens * inner)?;
    let mut launches = Launches::new();
    let (keys, values) = (layer.keys.address(), layer.values.address());
    scatter_rows(&mut launches, floats(k_cuda, k_layout)?, places.address(), tokens, inner, keys)?;
    scatter_rows(&mut launches, floats(v_cuda, v_layout)?, places.address(), tokens, inner, values)?;
    shared.run(&device, launches, [floats(q_cuda, q_layout)?, keys, values], &out)?;
    let (storage, shape) = wrap(out, &device, (tokens, inner));
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}
