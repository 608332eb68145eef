//! The ops of a training step on a device: noise, linear layers, norms and tables, with their ways back.

use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Shape, Storage, Tensor};
use switch_kernels::cuda::{self, Launches, RmsNormBackward, NORM_WEIGHT_PARTS};

use super::gradients::{add_outer, back_to_input, Outer};
use super::run::{address_of, device_of, floats, model_error, run, wrap, Buffer};
use crate::error::Result;
use crate::weight::Weight;

/// A buffer as a tensor that has no graph.
pub fn tensor(buffer: Buffer<f32>, like: &Tensor, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
    let (storage, shape) = wrap(buffer, &device_of(like)?, shape);
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// Columns `start..start + len` of a storage `[rows, width]`.
pub fn columns(
    storage: &CudaStorage,
    layout: &Layout,
    start: usize,
    len: usize,
) -> candle_core::Result<(CudaStorage, Shape)> {
    use candle_core::backend::BackendStorage;
    let device = storage.device().clone();
    let (rows, width) = layout.shape().dims2()?;
    let y = Buffer::<f32>::new(&device, rows * len)?;
    let mut launches = Launches::new();
    let x = floats(storage, layout)?;
    cuda::copy_columns(&mut launches, (x, start, width), (y.address(), 0, len), rows, len)
        .map_err(|e| model_error(e.into()))?;
    run(&device, &launches).map_err(model_error)?;
    Ok(wrap(y, &device, (rows, len)))
}

/// Tensors of `rows` rows side by side, each from a column of the result on; what none covers is 0.
pub fn spread(parts: &[(&Tensor, usize)], width: usize) -> candle_core::Result<Tensor> {
    let Some((like, _)) = parts.first() else { return Err(candle_core::Error::Msg("nothing to put together".into())) };
    let device = device_of(like)?;
    let rows = like.dim(0)?;
    let y = Buffer(device.alloc_zeros::<f32>((rows * width).max(1))?);
    let mut launches = Launches::new();
    for (part, at) in parts {
        let columns = part.dim(1)?;
        let from = (address_of(part)?, 0, columns);
        cuda::copy_columns(&mut launches, from, (y.address(), *at, width), rows, columns)
            .map_err(|e| model_error(e.into()))?;
    }
    run(&device, &launches).map_err(model_error)?;
    tensor(y, like, (rows, width))
}

/// The gradient of `x` of `y = x · wᵀ`; that of the weight is added where `master` learns.
pub fn linear_backward(weight: &Weight, master: &Weight, x: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let device = device_of(dy)?;
    let (n, rows) = dy.dims2()?;
    let cols = x.dim(1)?;
    let dx = Buffer::<f32>::new(&device, n * cols)?;
    let mut launches = Launches::new();
    back_to_input(&mut launches, &device, weight, address_of(dy)?, n, dx.address(), false)?;
    let outer = Outer { dy: (dy, rows), x: (x, cols), n };
    add_outer(&mut launches, &device, master.trainable(), weight.precision(), outer)?;
    run(&device, &launches).map_err(model_error)?;
    tensor(dx, x, x.shape().clone())
}

/// The gradient of a norm's input; that of its weight is added where it learns.
pub fn rms_norm_backward(weight: &Weight, eps: f32, x: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let device = device_of(dy)?;
    let (rows, d) = x.dims2()?;
    let dx = Buffer::<f32>::new(&device, rows * d)?;
    let gradient = weight.trainable().and_then(|trainable| trainable.device_gradient());
    let sum = gradient.map(|gradient| gradient.start(&device, d)).transpose()?;
    let scratch = sum.map(|_| [rows, NORM_WEIGHT_PARTS * d, d].map(|len| Buffer::<f32>::new(&device, len)));
    let at = |index: usize| match scratch.as_ref().and_then(|scratch| scratch.get(index)) {
        Some(Ok(buffer)) => Ok(buffer.address()),
        Some(Err(error)) => Err(candle_core::Error::Msg(error.to_string())),
        None => Ok(0),
    };
    let p = RmsNormBackward {
        x: address_of(x)?,
        weight: weight.on_cuda(&device)?,
        eps,
        out_grad: address_of(dy)?,
        x_grad: dx.address(),
        weight_grad: at(2)?,
        scales: at(0)?,
        partial: at(1)?,
    };
    let mut launches = Launches::new();
    let kernel = |e: switch_kernels::KernelError| model_error(e.into());
    cuda::rms_norm_backward(&mut launches, &p, rows, d).map_err(kernel)?;
    if let Some(sum) = sum {
        cuda::add(&mut launches, sum, p.weight_grad, d, sum).map_err(kernel)?;
    }
    run(&device, &launches).map_err(model_error)?;
    tensor(dx, x, x.shape().clone())
}

/// Adds the gradient of a table's rows `ids` where it learns. `false`: it has none on a device.
pub fn embedding_backward(table: &Weight, ids: &[u32], dy: &Tensor) -> Result<bool> {
    let Some(gradient) = table.trainable().and_then(|trainable| trainable.device_gradient()) else { return Ok(false) };
    let device = device_of(dy)?;
    let sum = gradient.start(&device, table.elements())?;
    let places = Buffer::from_host(&device, ids)?;
    let mut launches = Launches::new();
    cuda::embedding_backward(&mut launches, places.address(), address_of(dy)?, ids.len(), dy.dim(1)?, sum)?;
    run(&device, &launches)?;
    Ok(true)
}
