//! What is bound by memory alone, and rows of tables.

use candle_core::cuda_backend::CudaDevice;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Shape, Storage, Tensor};
use switch_kernels::cuda::{self, Address, Launches, RmsNorm, WeightType};
use switch_kernels::KernelError;

use super::experts::storage_device;
use super::run::{floats, model_error, run, wrap, Buffer};
use super::weights::multiply;
use crate::error::{ModelError, Result};
use crate::weight::Weight;

/// An op of one operand whose result has its shape: `push(launches, x, elements, y)`.
pub fn pointwise(
    storage: &CudaStorage,
    layout: &Layout,
    push: impl FnOnce(&mut Launches, Address, usize, Address) -> std::result::Result<(), KernelError>,
) -> candle_core::Result<(CudaStorage, Shape)> {
    let device = storage_device(storage);
    let n = layout.shape().elem_count();
    let y = Buffer::<f32>::new(&device, n)?;
    let mut launches = Launches::new();
    push(&mut launches, floats(storage, layout)?, n, y.address()).map_err(|e| model_error(e.into()))?;
    run(&device, &launches).map_err(model_error)?;
    Ok(wrap(y, &device, layout.shape().clone()))
}

/// `x · wᵀ`
pub fn linear(weight: &Weight, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
    let device = storage_device(storage);
    let (tokens, _) = layout.shape().dims2()?;
    let out_features = weight.shape().first().copied().unwrap_or(0);
    let y = Buffer::<f32>::new(&device, tokens * out_features)?;
    let mut launches = Launches::new();
    let x = floats(storage, layout)?;
    let identity = switch_kernels::Activation::Identity;
    multiply(&mut launches, &device, x, tokens, weight, identity, false, y.address()).map_err(model_error)?;
    run(&device, &launches).map_err(model_error)?;
    Ok(wrap(y, &device, (tokens, out_features)))
}

pub fn rms_norm(
    weight: &Weight,
    eps: f32,
    storage: &CudaStorage,
    layout: &Layout,
) -> candle_core::Result<(CudaStorage, Shape)> {
    let (rows, d) = layout.shape().dims2()?;
    if weight.elements() != d || weight.cuda_type() != WeightType::F32 {
        return Err(model_error(ModelError::internal(format!("a norm of {} for {d} columns", weight.elements()))));
    }
    let weight = weight.on_cuda(&storage_device(storage))?;
    pointwise(storage, layout, |launches, x, _, out| {
        cuda::rms_norm(launches, &RmsNorm { x, weight, eps, out, ..RmsNorm::default() }, rows, d)
    })
}

pub fn add(
    (a, a_layout): (&CudaStorage, &Layout),
    (b, b_layout): (&CudaStorage, &Layout),
) -> candle_core::Result<(CudaStorage, Shape)> {
    if a_layout.shape() != b_layout.shape() {
        let message = format!("cannot add {:?} to {:?}", b_layout.shape(), a_layout.shape());
        return Err(candle_core::Error::Msg(message));
    }
    let b = floats(b, b_layout)?;
    pointwise(a, a_layout, |launches, a, n, out| cuda::add(launches, a, b, n, out))
}

/// Adds `b` to `a` where it lies.
pub fn add_to(
    (a, a_layout): (&CudaStorage, &Layout),
    (b, b_layout): (&CudaStorage, &Layout),
) -> candle_core::Result<()> {
    let (a_at, b_at) = (floats(a, a_layout)?, floats(b, b_layout)?);
    let mut launches = Launches::new();
    cuda::add(&mut launches, a_at, b_at, a_layout.shape().elem_count(), a_at).map_err(|e| model_error(e.into()))?;
    run(&storage_device(a), &launches).map_err(model_error)
}

pub fn add_bias(bias: &Weight, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
    let (rows, width) = layout.shape().dims2()?;
    if bias.elements() != width || bias.cuda_type() != WeightType::F32 {
        return Err(model_error(ModelError::internal(format!("a bias of {} for {width} columns", bias.elements()))));
    }
    let bias = bias.on_cuda(&storage_device(storage))?;
    pointwise(storage, layout, |launches, x, _, out| cuda::add_row(launches, x, bias, rows, width, out))
}

/// Rows of a table `[.., width]` that lies at `table`, by numbers that lie in it.
fn rows_of(device: &CudaDevice, table: Address, kind: WeightType, ids: &[u32], width: usize) -> Result<Tensor> {
    let (storage, shape) = row_storage(device, table, kind, ids, width)?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

fn row_storage(
    device: &CudaDevice,
    table: Address,
    kind: WeightType,
    ids: &[u32],
    width: usize,
) -> Result<(CudaStorage, Shape)> {
    let out = Buffer::<f32>::new(device, ids.len() * width)?;
    let places = Buffer::from_host(device, ids)?;
    let mut launches = Launches::new();
    cuda::embedding(&mut launches, table, kind, places.address(), ids.len(), width, out.address())?;
    run(device, &launches)?;
    Ok(wrap(out, device, (ids.len(), width)))
}

fn check_ids(ids: &[u32], rows: usize) -> Result<()> {
    match ids.iter().enumerate().find(|(_, id)| **id as usize >= rows) {
        Some((position, &id)) => Err(KernelError::IdOutOfRange { id, position, rows }.into()),
        None => Ok(()),
    }
}

pub fn embedding(device: &CudaDevice, table: &Weight, ids: &[u32]) -> Result<Tensor> {
    let &[rows, width] = table.shape() else {
        return Err(ModelError::internal(format!("embeddings of shape {:?}", table.shape())));
    };
    check_ids(ids, rows)?;
    rows_of(device, table.on_cuda(device)?, table.cuda_type(), ids, width)
}

/// [`embedding`] as an op's result; `beside` says on which device.
pub fn embedding_storage(
    beside: &CudaStorage,
    table: &Weight,
    ids: &[u32],
) -> candle_core::Result<(CudaStorage, Shape)> {
    let device = storage_device(beside);
    let &[rows, width] = table.shape() else {
        return Err(model_error(ModelError::internal(format!("embeddings of shape {:?}", table.shape()))));
    };
    check_ids(ids, rows).map_err(model_error)?;
    row_storage(&device, table.on_cuda(&device)?, table.cuda_type(), ids, width).map_err(model_error)
}

/// Rows of a flat activation.
pub fn select(x: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    check_ids(ids, rows)?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cuda(cuda) = &*storage else { return Err(ModelError::internal("expected a tensor on CUDA")) };
    rows_of(&storage_device(cuda), floats(cuda, layout)?, WeightType::F32, ids, width)
}
