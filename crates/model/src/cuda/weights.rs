//! Weights on a device: uploaded when first used, in the type that they are stored in, and kept as long as the weight.

use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::CudaDevice;
use switch_kernels::cuda::{product, Address, Arithmetic, Flags, Launches, Product, WeightType};
use switch_kernels::{Activation, Precision, Values};

use super::run::Buffer;
use super::upload::{overwrite, upload};
use crate::error::{code, ModelError, Result};
use crate::weight::Weight;

/// A weight's copy on a device.
#[derive(Default)]
pub struct WeightCopy(Mutex<Option<Copied>>);

/// Where it is, the values, and the scales of quantised ones.
type Copied = (CudaDevice, Buffer<u8>, Option<Buffer<f32>>);

impl WeightCopy {
    /// Where the copy of `values` lies, made now if it is not there.
    pub fn address(&self, device: &CudaDevice, values: Values<'_>) -> candle_core::Result<Address> {
        Ok(self.addresses(device, values)?.0)
    }

    /// The same, and where the scales of quantised values lie; 0: none.
    pub fn addresses(&self, device: &CudaDevice, values: Values<'_>) -> candle_core::Result<(Address, Address)> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |buffer: &Buffer<u8>, scales: &Option<Buffer<f32>>| {
            (buffer.address(), scales.as_ref().map_or(0, Buffer::address))
        };
        if let Some((_, buffer, scales)) = held.as_ref().filter(|(of, ..)| of.id() == device.id()) {
            return Ok(of(buffer, scales));
        }
        let (bytes, scales) = parts(values);
        let buffer = upload(device, bytes)?;
        let scales = scales.map(|scales| Buffer::from_host(device, scales)).transpose()?;
        let addresses = of(&buffer, &scales);
        *held = Some((device.clone(), buffer, scales));
        Ok(addresses)
    }

    /// Writes values that have changed over the copy, where there is one: addresses stay.
    pub fn refresh(&self, values: Values<'_>) -> candle_core::Result<()> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((device, buffer, None)) => overwrite(device, parts(values).0, buffer),
            _ => Ok(()),
        }
    }
}

/// Values as bytes, and the scales of quantised ones.
fn parts(values: Values<'_>) -> (&[u8], Option<&[f32]>) {
    match values {
        Values::F32(v) => (bytemuck::cast_slice(v), None),
        Values::F16(v) | Values::Bf16(v) => (bytemuck::cast_slice(v), None),
        Values::I8 { values, scales } => (bytemuck::cast_slice(values), Some(scales)),
        Values::I4 { values, scales, .. } => (values, Some(scales)),
    }
}

/// An expert's matrix on the device for as long as the result lives, beside no copy that is kept.
pub fn passing(device: &CudaDevice, values: Values<'_>) -> candle_core::Result<(Buffer<u8>, Option<Buffer<f32>>)> {
    let (bytes, scales) = parts(values);
    Ok((upload(device, bytes)?, scales.map(|scales| Buffer::from_host(device, scales)).transpose()?))
}

impl Weight {
    pub(crate) fn on_cuda(&self, device: &CudaDevice) -> candle_core::Result<Address> {
        self.cuda_copy().address(device, self.values())
    }

    /// The values and, of a quantised weight, the scales.
    pub(crate) fn on_cuda_with_scales(&self, device: &CudaDevice) -> candle_core::Result<(Address, Address)> {
        self.cuda_copy().addresses(device, self.values())
    }

    /// Brings a copy on the device up to date, where there is one.
    pub(crate) fn refresh_on_cuda(&self) -> Result<()> {
        Ok(self.cuda_copy().refresh(self.values())?)
    }

    pub(crate) fn cuda_type(&self) -> WeightType {
        match self.values() {
            Values::F32(_) => WeightType::F32,
            Values::F16(_) => WeightType::F16,
            Values::Bf16(_) => WeightType::Bf16,
            Values::I8 { .. } => WeightType::Int8 { block: self.shape().last().copied().unwrap_or(1).max(1) },
            Values::I4 { group, .. } => WeightType::Int4 { block: group },
        }
    }
}

/// What products of 17 rows or more are computed in: `SWITCH_CUDA_ARITHMETIC`. `auto`: weights in halves on tensor cores, with
/// inputs as sums of two; others in float32; in a training in bfloat16 everything rounded to it. `half`: weights in halves
/// with inputs rounded once. `tf32`: float32 weights too, rounded to tf32. `float32`: no tensor cores.
pub fn arithmetic(weight: WeightType, precision: Precision) -> Result<Arithmetic> {
    static ASKED: OnceLock<String> = OnceLock::new();
    let asked = ASKED.get_or_init(|| std::env::var("SWITCH_CUDA_ARITHMETIC").unwrap_or_default());
    let stored_half = weight != WeightType::F32;
    match (asked.as_str(), precision) {
        ("float32", _) => Ok(Arithmetic::Float32),
        ("" | "auto" | "half" | "tf32", Precision::Bfloat16) => Ok(Arithmetic::Half),
        ("" | "auto", _) => Ok(Arithmetic::Split),
        ("half", _) if stored_half => Ok(Arithmetic::Half),
        ("half", _) => Ok(Arithmetic::Float32),
        ("tf32", _) => Ok(if stored_half { Arithmetic::Half } else { Arithmetic::Tf32 }),
        (other, _) => {
            let message = format!(
                "SWITCH_CUDA_ARITHMETIC: found {other:?}, expected \"auto\", \"half\", \"tf32\" or \"float32\""
            );
            Err(ModelError::new(code::INVALID_OPTION, message))
        }
    }
}

/// Pushes `y = act(x · wᵀ)`, or with `multiply` `y · x · wᵀ`, of `tokens` rows that lie one after another.
#[allow(clippy::too_many_arguments)] // a product's own operands
pub fn multiply(
    launches: &mut Launches,
    device: &CudaDevice,
    x: Address,
    tokens: usize,
    weight: &Weight,
    activation: Activation,
    multiply: bool,
    y: Address,
) -> Result<()> {
    let &[rows, cols] = weight.shape() else {
        return Err(ModelError::internal(format!("linear over a weight of shape {:?}", weight.shape())));
    };
    let kind = weight.cuda_type();
    let (b, scales) = weight.on_cuda_with_scales(device)?;
    let p = Product {
        a: x,
        a_row: cols,
        a_k: 1,
        b,
        scales,
        b_row: cols,
        b_k: 1,
        y,
        y_row: rows,
        m: tokens,
        n: rows,
        k: cols,
        flags: Flags { multiply, ..Flags::default() },
        ..Product::default()
    };
    Ok(product(launches, arithmetic(kind, weight.precision())?, kind, activation, &p)?)
}
