//! Gradients of weights, summed on a device until the host asks for them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::{CudaDevice, DeviceId};
use switch_kernels::cuda::{product, Address, Flags, Launches, Product, WeightType};
use switch_kernels::{Activation, Precision};

use super::errors::of_driver;
use super::run::{model_error, run, Buffer};
use super::weights::arithmetic;
use crate::error::Result;
use crate::training::Trainable;
use crate::weight::Weight;

#[derive(Default)]
struct Held {
    buffer: Option<(DeviceId, Buffer<f32>)>,
    /// Whether the values mean anything.
    present: bool,
}

/// A gradient on a device; memory is kept while it is cleared.
#[derive(Default)]
pub struct DeviceGradient(Mutex<Held>);

impl DeviceGradient {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the gradient of `len` values lies, zeroed first where there was none.
    pub fn start(&self, device: &CudaDevice, len: usize) -> candle_core::Result<Address> {
        let mut held = self.lock();
        let fits = held.buffer.as_ref().is_some_and(|(id, buffer)| *id == device.id() && buffer.0.len() >= len);
        if !fits || !held.present {
            // Memory that is already there is zeroed as cheaply as it is allocated.
            if !fits {
                held.buffer = Some((device.id(), Buffer::new(device, len)?));
            }
            if let Some((_, buffer)) = &mut held.buffer {
                let zeroed = device.cuda_stream().memset_zeros(&mut buffer.0);
                zeroed.map_err(|e| model_error(of_driver(&e, "clearing a gradient")))?;
            }
            held.present = true;
        }
        Ok(held.buffer.as_ref().map_or(0, |(_, buffer)| buffer.address()))
    }

    /// The values, if there are any, which are then no longer here.
    pub fn take(&self, len: usize) -> Result<Option<Vec<f32>>> {
        let mut held = self.lock();
        if !std::mem::take(&mut held.present) {
            return Ok(None);
        }
        let Some((_, buffer)) = &held.buffer else { return Ok(None) };
        let read = buffer.0.stream().clone_dtoh(&buffer.0);
        let mut values = read.map_err(|e| of_driver(&e, "reading a gradient"))?;
        values.truncate(len);
        Ok(Some(values))
    }

    pub fn clear(&self) {
        self.lock().present = false;
    }

    /// Gives the memory back too.
    pub fn free(&self) {
        *self.lock() = Held::default();
    }
}

/// Pushes `dx[n, cols] (+)= dy[n, rows] · w`.
pub fn back_to_input(
    launches: &mut Launches,
    device: &CudaDevice,
    weight: &Weight,
    dy: Address,
    n: usize,
    dx: Address,
    add: bool,
) -> candle_core::Result<()> {
    let (rows, cols) = (weight.shape().first().copied().unwrap_or(0), weight.shape().last().copied().unwrap_or(0));
    let kind = weight.cuda_type();
    let (b, scales) = weight.on_cuda_with_scales(device)?;
    let p = Product {
        a: dy,
        a_row: rows,
        a_k: 1,
        b,
        scales,
        b_row: 1,
        b_k: cols,
        y: dx,
        y_row: cols,
        ..Product::default()
    };
    let p = Product { m: n, n: cols, k: rows, flags: Flags { add, ..Flags::default() }, ..p };
    let how = arithmetic(kind, weight.precision()).map_err(model_error)?;
    product(launches, how, kind, Activation::Identity, &p).map_err(|e| model_error(e.into()))
}

/// The operands of a weight's gradient, `dw[rows, cols] = dyᵀ · x`: `[n, rows]` and `[n, cols]`.
#[derive(Clone, Copy)]
pub struct Outer<'a> {
    pub dy: (&'a dyn Operand, usize),
    pub x: (&'a dyn Operand, usize),
    pub n: usize,
}

/// Values on a device that an adapter's gradient, which the host computes, may need there.
pub trait Operand {
    fn at(&self) -> candle_core::Result<Address>;
    fn on_host(&self) -> candle_core::Result<Vec<f32>>;
}

impl Operand for Buffer<f32> {
    fn at(&self) -> candle_core::Result<Address> {
        Ok(self.address())
    }

    fn on_host(&self) -> candle_core::Result<Vec<f32>> {
        self.0.stream().clone_dtoh(&self.0).map_err(|e| model_error(of_driver(&e, "reading activations")))
    }
}

impl Operand for candle_core::Tensor {
    fn at(&self) -> candle_core::Result<Address> {
        super::run::address_of(self)
    }

    fn on_host(&self) -> candle_core::Result<Vec<f32>> {
        self.flatten_all()?.to_vec1()
    }
}

/// Adds a weight's gradient where it learns; runs what has been pushed before if the host has to see it.
pub fn add_outer(
    launches: &mut Launches,
    device: &CudaDevice,
    trainable: Option<&Trainable>,
    precision: Precision,
    p: Outer<'_>,
) -> candle_core::Result<()> {
    let Some(trainable) = trainable else { return Ok(()) };
    let (rows, cols) = (p.dy.1, p.x.1);
    let Some(gradient) = trainable.device_gradient() else {
        run(device, &std::mem::take(launches)).map_err(model_error)?;
        let (dy, x) = (p.dy.0.on_host()?, p.x.0.on_host()?);
        let (dy, x) = (dy.get(..p.n * rows).unwrap_or_default(), x.get(..p.n * cols).unwrap_or_default());
        return trainable.add_linear(precision, dy, x, p.n, rows, cols).map_err(model_error);
    };
    let y = gradient.start(device, rows * cols)?;
    let (a, b) = (p.dy.0.at()?, p.x.0.at()?);
    let q = Product {
        a,
        a_row: 1,
        a_k: rows,
        b,
        b_row: 1,
        b_k: cols,
        y,
        y_row: cols,
        m: rows,
        n: cols,
        ..Product::default()
    };
    let q = Product { k: p.n, flags: Flags { add: true, ..Flags::default() }, ..q };
    let how = arithmetic(WeightType::F32, precision).map_err(model_error)?;
    product(launches, how, WeightType::F32, Activation::Identity, &q).map_err(|e| model_error(e.into()))
}
