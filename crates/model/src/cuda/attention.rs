//! Attention on a device, over fresh keys and values or a cache.

use candle_core::cuda_backend::CudaDevice;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Shape, Storage, Tensor};
use switch_kernels::cuda::{
    attention, attention_backward, scatter_rows, sum_rows, Address, Attention, AttentionBackward, DropoutArgument,
    Launches, Span,
};
use switch_kernels::training::Dropout;
use switch_kernels::Values;

use super::cache::DeviceLayer;
use super::errors::of_driver;
use super::experts::storage_device;
use super::run::{address_of, device_of, floats, model_error, run, wrap, Buffer};
use super::training::tensor;
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
    dropout: DropoutArgument,
    /// Where the logarithms of sums go, in training.
    lse: Address,
}

/// A batch's rows on the device, ready for launches.
struct Placed {
    words: Buffer<i32>,
    masks: Buffer<u8>,
    /// All operands but queries, keys, values and results.
    attention: Attention,
}

impl Shared<'_> {
    /// Adds a row, with its mask.
    fn push(&mut self, span: Span, mask: Option<&[u8]>) {
        let mask_start = mask.map(|_| self.masks.len());
        self.masks.extend_from_slice(mask.unwrap_or_default());
        self.spans.push(Span { mask_start, ..span });
    }

    fn place(&self, device: &CudaDevice) -> candle_core::Result<Placed> {
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
        let attention = Attention {
            spans: words.address(),
            masks: masks.address(),
            bias,
            lse: self.lse,
            kv_stride: self.inner,
            q_stride: self.inner,
            heads: self.heads,
            head_dim: self.inner / self.heads,
            span: self.bias.map_or(0, |bias| bias.span),
            zero: self.bias.map_or(0, |bias| bias.zero),
            dropout: self.dropout,
            ..Attention::default()
        };
        Ok(Placed { words, masks, attention })
    }

    /// Enqueues `launches` and the attention after them.
    fn run(
        &self,
        device: &CudaDevice,
        mut launches: Launches,
        [q, k, v]: [Address; 3],
        out: &Buffer<f32>,
    ) -> candle_core::Result<()> {
        let placed = self.place(device)?;
        let p = Attention { q, k, v, out: out.address(), ..placed.attention };
        attention(&mut launches, &p, &self.spans).map_err(|e| model_error(e.into()))?;
        run(device, &launches).map_err(model_error)
    }
}

/// The rows of an op as spans over its tensors, checked against them.
fn shared<'a>(
    rows: &[RowSpan<'_>],
    heads: usize,
    inner: usize,
    bias: Option<&'a BiasSpan>,
    (queries, keys): (usize, usize),
) -> candle_core::Result<Shared<'a>> {
    let (spans, masks) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut shared = Shared { spans, masks, heads, inner, bias, dropout: DropoutArgument::default(), lse: 0 };
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
    Ok(shared)
}

/// The op's forward in training, and what its way back needs: the logarithms of sums, `[tokens, heads]`.
pub fn attend_train(
    rows: &[RowSpan<'_>],
    heads: usize,
    bias: Option<&BiasSpan>,
    dropout: &Dropout,
    operands: [(&CudaStorage, &Layout); 3],
) -> candle_core::Result<(CudaStorage, Shape, Buffer<f32>)> {
    let [(q, q_layout), (_, k_layout), _] = operands;
    let device = storage_device(q);
    let (queries, inner) = q_layout.shape().dims2()?;
    let mut shared = shared(rows, heads, inner, bias, (queries, k_layout.shape().dims2()?.0))?;
    let out = Buffer::<f32>::new(&device, queries * inner)?;
    let lse = Buffer::<f32>::new(&device, queries * heads)?;
    (shared.dropout, shared.lse) = (dropout.into(), lse.address());
    let mut addresses = [0; 3];
    for (address, (storage, layout)) in addresses.iter_mut().zip(operands) {
        *address = floats(storage, layout)?;
    }
    shared.run(&device, Launches::new(), addresses, &out)?;
    let (storage, shape) = wrap(out, &device, q_layout.shape().clone());
    Ok((storage, shape, lse))
}

/// What [`attend_train`] read, made and kept.
pub struct AttendBack<'a> {
    pub rows: &'a [RowSpan<'a>],
    pub heads: usize,
    pub bias: Option<&'a BiasSpan>,
    pub dropout: &'a Dropout,
    pub lse: &'a Buffer<f32>,
    pub operands: [&'a Tensor; 3],
    pub out: &'a Tensor,
    pub gradient: &'a Tensor,
}

/// The gradients of queries, keys and values; that of a bias that learns is added to its table's.
pub fn attend_backward(p: &AttendBack<'_>) -> candle_core::Result<[Tensor; 3]> {
    let [q, k, v] = p.operands;
    let device = device_of(q)?;
    let (queries, inner) = q.dims2()?;
    let keys = k.dims2()?.0;
    let mut shared = shared(p.rows, p.heads, inner, p.bias, (queries, keys))?;
    (shared.dropout, shared.lse) = (p.dropout.into(), p.lse.address());
    let placed = shared.place(&device)?;
    let made = |tokens: usize| Buffer::<f32>::new(&device, tokens * inner);
    let (q_grad, k_grad, v_grad) = (made(queries)?, made(keys)?, made(keys)?);
    let learned = p.bias.filter(|bias| bias.learns());
    let bias_len = learned.map_or(0, |bias| bias.values.len());
    let by_row = Buffer::<f32>::new(&device, p.rows.len() * bias_len)?;
    let bias_grad = Buffer::<f32>::new(&device, bias_len)?;
    let forward = Attention {
        q: address_of(q)?,
        k: address_of(k)?,
        v: address_of(v)?,
        out: address_of(p.out)?,
        ..placed.attention
    };
    let backward = AttentionBackward {
        forward,
        out_grad: address_of(p.gradient)?,
        q_grad: q_grad.address(),
        k_grad: k_grad.address(),
        v_grad: v_grad.address(),
        bias_grad: if learned.is_some() { by_row.address() } else { 0 },
    };
    let kernel = |e: switch_kernels::KernelError| model_error(e.into());
    let mut launches = Launches::new();
    attention_backward(&mut launches, &backward, &shared.spans).map_err(kernel)?;
    if learned.is_some() {
        sum_rows(&mut launches, by_row.address(), p.rows.len(), bias_len, bias_grad.address()).map_err(kernel)?;
    }
    run(&device, &launches).map_err(model_error)?;
    drop((placed.words, placed.masks));
    if let Some(bias) = learned {
        let read = device.cuda_stream().clone_dtoh(&bias_grad.0);
        let mut values = read.map_err(|e| model_error(of_driver(&e, "reading a gradient")))?;
        values.truncate(bias_len);
        bias.add_gradient(&values).map_err(model_error)?;
    }
    Ok([
        tensor(q_grad, q, q.shape().clone())?,
        tensor(k_grad, k, k.shape().clone())?,
        tensor(v_grad, v, v.shape().clone())?,
    ])
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
    let shared = shared(rows, heads, inner, bias, (queries, keys))?;
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
    let (spans, no_masks) = (Vec::with_capacity(segments.len()), Vec::new());
    let dropout = DropoutArgument::default();
    let mut shared = Shared { spans, masks: no_masks, heads, inner, bias: Some(bias), dropout, lse: 0 };
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
