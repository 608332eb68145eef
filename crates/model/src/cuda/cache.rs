//! Keys and values of tokens already decoded, on a device: one buffer per layer, a part of it per slot.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream};
use candle_core::cuda_backend::CudaDevice;

use super::errors::of_driver;
use super::run::Buffer;
use crate::error::{ModelError, Result};

/// Room that a slot begins with, and is rounded up to.
const STEP_TOKENS: usize = 64;

/// One layer's keys and values, `[slots * capacity, inner]` each.
pub struct DeviceLayer {
    pub keys: Buffer<f32>,
    pub values: Buffer<f32>,
    /// Tokens of a slot.
    pub capacity: usize,
}

impl DeviceLayer {
    /// All keys, `[slots * capacity, inner]`, for records.
    pub fn keys_on_host(&self) -> Result<Vec<f32>> {
        self.keys.0.stream().clone_dtoh(&self.keys.0).map_err(|e| of_driver(&e, "reading a cache"))
    }
}

/// Copies `count` elements between buffers of a device, in the order of its stream.
fn copy(
    stream: &Arc<CudaStream>,
    from: (&CudaSlice<f32>, usize),
    to: (&mut CudaSlice<f32>, usize),
    count: usize,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let outside = || ModelError::internal("a copy outside of a cache");
    let source = from.0.try_slice(from.1..from.1 + count).ok_or_else(outside)?;
    let mut target = to.0.try_slice_mut(to.1..to.1 + count).ok_or_else(outside)?;
    stream.memcpy_dtod(&source, &mut target).map_err(|e| of_driver(&e, "moving a cache"))
}

/// The layers of a cache. Empty until something is decoded.
pub struct DeviceCache {
    pub layers: Vec<DeviceLayer>,
    /// Tokens a slot that are made room for at once, so that generating them moves nothing.
    expected: usize,
}

impl DeviceCache {
    pub fn expecting(tokens: usize) -> Self {
        Self { layers: Vec::new(), expected: tokens }
    }

    /// Makes room for `tokens` tokens a slot in every layer; what is there (`lens` by slot) stays. Grows by doubling.
    pub fn reserve(
        &mut self,
        device: &CudaDevice,
        layers: usize,
        inner: usize,
        lens: &[usize],
        tokens: usize,
    ) -> Result<()> {
        let held = self.layers.first().map_or(0, |layer| layer.capacity);
        if self.layers.len() == layers && tokens <= held {
            return Ok(());
        }
        let capacity = tokens.max(held * 2).max(self.expected).next_multiple_of(STEP_TOKENS);
        let elements = lens.len().checked_mul(capacity).and_then(|n| n.checked_mul(inner));
        // Rows of the buffer are counted in 32 bits.
        let elements = elements.filter(|_| i32::try_from(lens.len() * capacity).is_ok()).ok_or_else(|| {
            ModelError::input(format!("{} rows of {capacity} tokens are too many for one cache", lens.len()))
        })?;
        let stream = device.cuda_stream();
        for index in 0..layers {
            let made =
                DeviceLayer { keys: Buffer::new(device, elements)?, values: Buffer::new(device, elements)?, capacity };
            let Some(layer) = self.layers.get_mut(index) else {
                self.layers.push(made);
                continue;
            };
            let old = std::mem::replace(layer, made);
            for (slot, len) in lens.iter().enumerate() {
                let (from, to) = (slot * old.capacity * inner, slot * capacity * inner);
                copy(&stream, (&old.keys.0, from), (&mut layer.keys.0, to), len * inner)?;
                copy(&stream, (&old.values.0, from), (&mut layer.values.0, to), len * inner)?;
            }
        }
        Ok(())
    }

    /// Slot `to` gets what slot `from` holds, `lens` by slot, for all pairs at once.
    pub fn reorder(&mut self, moves: &[(usize, usize)], lens: &[usize], inner: usize) -> Result<()> {
        for layer in &mut self.layers {
            for of in [&mut layer.keys, &mut layer.values] {
                let stream = Arc::clone(of.0.stream());
                // All sources first: a slot may be both.
                let mut kept = Vec::with_capacity(moves.len());
                for (_, from) in moves {
                    let elements = lens.get(*from).copied().unwrap_or(0) * inner;
                    // SAFETY: written by the copy that follows.
                    let made = unsafe { stream.alloc::<f32>(elements.max(1)) };
                    let mut aside = made.map_err(|e| of_driver(&e, "moving a cache"))?;
                    copy(&stream, (&of.0, from * layer.capacity * inner), (&mut aside, 0), elements)?;
                    kept.push((aside, elements));
                }
                for ((to, _), (aside, elements)) in moves.iter().zip(&kept) {
                    copy(&stream, (aside, 0), (&mut of.0, to * layer.capacity * inner), *elements)?;
                }
            }
        }
        Ok(())
    }
}
