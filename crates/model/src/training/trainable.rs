//! A weight's second life: float32 values that an optimiser changes in place, and a gradient beside them.
//!
//! Gradients do not go back along the tape, which would hold a second copy of each while they are summed: the ops'
//! backward passes add to them here, so that accumulation over several batches costs no memory and no pass.

use std::cell::UnsafeCell;
use std::sync::{Mutex, PoisonError};

use switch_kernels::training::{
    linear_backward_weight, linear_backward_weight_anew, linears_backward_weight, WeightGradient,
};
use switch_kernels::Precision;

use super::adapter::Adapter;
use crate::error::Result;
use crate::weight::{try_zeros, Weight};

/// A gradient that may not be there: a parameter that no token passed through has none, and an optimiser leaves it.
#[derive(Default)]
pub struct Gradient {
    values: Vec<f32>,
    present: bool,
}

impl Gradient {
    /// The values, zeroed first where there were none.
    pub fn start(&mut self, len: usize) -> Result<&mut [f32]> {
        let (values, there) = self.room(len)?;
        if !there {
            values.fill(0.0);
        }
        Ok(values)
    }

    /// The values, and whether they mean anything yet; the caller writes all of them if not.
    fn room(&mut self, len: usize) -> Result<(&mut [f32], bool)> {
        if self.values.len() != len {
            self.values = try_zeros(len)?;
            self.present = false;
        }
        let there = std::mem::replace(&mut self.present, true);
        Ok((&mut self.values, there))
    }

    pub fn get(&self) -> Option<&[f32]> {
        self.present.then_some(self.values.as_slice())
    }

    /// Forgets the gradient and keeps its memory.
    pub fn clear(&mut self) {
        self.present = false;
    }
}

/// What is learned of a weight.
pub enum Learned {
    /// Every value.
    All(Mutex<Gradient>),
    /// A low-rank change of values that stay.
    Adapter(Mutex<Adapter>),
}

/// Values that training changes. Layers read them through [`Trainable::values`]; only the optimiser, which owns the
/// training and runs between passes, writes.
pub struct Trainable {
    values: UnsafeCell<Vec<f32>>,
    pub learned: Learned,
    /// What a CUDA device has summed and the host's gradient does not hold yet.
    #[cfg(feature = "cuda")]
    device: Box<crate::cuda::DeviceGradient>,
}

// SAFETY: `values` is written only through `values_mut`, whose callers promise that nothing reads meanwhile.
unsafe impl Sync for Trainable {}

impl Trainable {
    pub fn new(values: Vec<f32>, learned: Learned) -> Self {
        Self {
            values: UnsafeCell::new(values),
            learned,
            #[cfg(feature = "cuda")]
            device: Default::default(),
        }
    }

    /// Where a device sums the gradient; adapters have theirs on the host.
    #[cfg(feature = "cuda")]
    pub(crate) fn device_gradient(&self) -> Option<&crate::cuda::DeviceGradient> {
        matches!(self.learned, Learned::All(_)).then(|| &*self.device)
    }

    /// Brings what a device has summed to the host's gradient.
    pub fn fetch(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(values) = self.device.take(self.values().len())? {
            self.add(|gradient| {
                gradient.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Gives back what a gradient takes on a device.
    pub fn free_device(&self) {
        #[cfg(feature = "cuda")]
        self.device.free();
    }

    pub fn values(&self) -> &[f32] {
        // SAFETY: see `values_mut`.
        unsafe { &*self.values.get() }
    }

    /// # Safety
    /// No borrow of [`Trainable::values`] is alive, on any thread, while the result is.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn values_mut(&self) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.values.get() }
    }

    /// Adds the gradient of `y = x · wᵀ`: `dy` `[n, rows]`, `x` `[n, cols]`.
    pub fn add_linear(
        &self,
        precision: Precision,
        dy: &[f32],
        x: &[f32],
        n: usize,
        rows: usize,
        cols: usize,
    ) -> Result<()> {
        match &self.learned {
            Learned::All(gradient) => {
                let mut gradient = gradient.lock().unwrap_or_else(PoisonError::into_inner);
                match gradient.room(rows * cols)? {
                    (dw, true) => Ok(linear_backward_weight(precision, dy, x, n, rows, cols, 1.0, dw)?),
                    (dw, false) => Ok(linear_backward_weight_anew(precision, dy, x, n, rows, cols, 1.0, dw)?),
                }
            }
            Learned::Adapter(adapter) => {
                adapter.lock().unwrap_or_else(PoisonError::into_inner).add_linear(precision, dy, x, n)
            }
        }
    }

    /// Lets `add` add to the gradient of all values. Weights with an adapter have none.
    pub fn add(&self, add: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        match &self.learned {
            Learned::All(gradient) => {
                let mut gradient = gradient.lock().unwrap_or_else(PoisonError::into_inner);
                add(gradient.start(self.values().len())?)
            }
            Learned::Adapter(_) => Ok(()),
        }
    }

    pub fn clear_gradient(&self) {
        #[cfg(feature = "cuda")]
        self.device.clear();
        match &self.learned {
            Learned::All(gradient) => gradient.lock().unwrap_or_else(PoisonError::into_inner).clear(),
            Learned::Adapter(adapter) => adapter.lock().unwrap_or_else(PoisonError::into_inner).clear(),
        }
    }
}

/// [`Trainable::add_linear`] for weights of one shape and precision over the same `x`, with the output gradient of each;
/// weights that do not learn are left out.
pub fn add_linears(weights: &[&Weight], dys: &[&[f32]], x: &[f32], n: usize) -> Result<()> {
    let mut together = Vec::with_capacity(weights.len());
    let Some(first) = weights.first() else { return Ok(()) };
    let (precision, matrix) = (first.precision(), first.matrix()?);
    let (rows, cols) = (matrix.rows, matrix.cols);
    for (weight, dy) in weights.iter().zip(dys) {
        match weight.trainable() {
            Some(Trainable { learned: Learned::All(gradient), .. }) => {
                together.push((gradient.lock().unwrap_or_else(PoisonError::into_inner), *dy));
            }
            Some(trainable) => trainable.add_linear(precision, dy, x, n, rows, cols)?,
            None => {}
        }
    }
    let mut gradients = Vec::with_capacity(together.len());
    for (gradient, dy) in &mut together {
        let (dw, add) = gradient.room(rows * cols)?;
        gradients.push(WeightGradient { dy, dw, add });
    }
    Ok(linears_backward_weight(precision, x, n, rows, cols, &mut gradients)?)
}
