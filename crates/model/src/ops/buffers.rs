//! Memory of activations and gradients, used again from op to op and from step to step.
//!
//! A step of a small model makes some 300 tensors of a megabyte. Asked for anew, each costs a pass of zeros on one thread, and
//! those that the allocator has given back to the system a page fault for every 4 KiB: a seventh of the step. So the tape gives
//! back what it is done with, and so do layers where nothing is recorded; ops take from there. There is one store for all
//! threads: which of a pool's threads runs a step is chance.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use super::tape::recording;
use crate::error::Result;
use crate::weight::try_zeros;

/// Elements below which a buffer is not worth keeping.
const MIN_ELEMENTS: usize = 4 * 1024;

static STORE: Mutex<Store> = Mutex::new(Store { buffers: Vec::new(), turn: 0 });

fn store() -> MutexGuard<'static, Store> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Store {
    /// The turn in which each was given, and the buffer.
    buffers: Vec<(u64, Vec<f32>)>,
    turn: u64,
}

impl Store {
    /// The buffer nearest in size, of at least `len` elements and at most twice as many; of equals the last one that was given,
    /// which is likely still in a cache.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let fits = |have: usize| len >= MIN_ELEMENTS && have >= len && have / 2 <= len;
        let found = self.buffers.iter().enumerate().filter(|(_, (_, buffer))| fits(buffer.capacity()));
        let (index, _) = found.min_by_key(|(index, (_, buffer))| (buffer.capacity(), usize::MAX - index))?;
        let (_, mut buffer) = self.buffers.remove(index);
        buffer.resize(len, 0.0);
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() >= MIN_ELEMENTS {
            self.buffers.push((self.turn, buffer));
        }
    }

    fn end_turn(&mut self) {
        let turn = self.turn;
        self.buffers.retain(|(given, _)| *given == turn);
        self.turn += 1;
    }
}

/// A buffer of `len` elements whose contents are unspecified, or `OUT_OF_MEMORY`.
pub fn take(len: usize) -> Result<Vec<f32>> {
    let found = store().take(len);
    found.map_or_else(|| try_zeros(len), Ok)
}

/// As [`take`], of zeros.
pub fn take_zeros(len: usize) -> Result<Vec<f32>> {
    let mut buffer = take(len)?;
    buffer.fill(0.0);
    Ok(buffer)
}

/// Keeps a buffer for [`take`].
pub fn give(buffer: Vec<f32>) {
    store().give(buffer);
}

/// Takes a tensor's values away, for [`take`]; whoever else holds it finds none.
pub fn give_tensor(x: &Tensor) {
    struct Empty;
    impl InplaceOp1 for Empty {
        fn name(&self) -> &'static str {
            "switch-give-buffer"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
            if let CpuStorage::F32(values) = storage {
                give(std::mem::take(values));
            }
            Ok(())
        }
    }
    if x.device().is_cpu() && x.elem_count() >= MIN_ELEMENTS {
        // What cannot be taken is freed with the tensor.
        let _ = x.inplace_op1(&Empty);
    }
}

/// Ends the life of a result that nothing reads any more: no other tensor but views that end as well. A pass that is being
/// recorded keeps what its way back reads, so there nothing is taken.
pub fn recycle(x: Tensor) {
    if !recording() {
        give_tensor(&x);
    }
}

/// Ends a pass that is not recorded: as [`end_turn`], so that what is kept at rest is at most what the last pass took.
pub fn end_pass() {
    if !recording() {
        end_turn();
    }
}

/// Ends a step: what it has not used goes, so that there is never more than the largest step takes.
pub fn end_turn() {
    store().end_turn();
}

/// Frees everything that is kept.
pub fn clear() {
    store().buffers = Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::on_values;

    fn empty() -> Store {
        Store { buffers: Vec::new(), turn: 0 }
    }

    #[test]
    fn what_is_given_is_taken_again() {
        let mut store = empty();
        store.give(vec![1.0; MIN_ELEMENTS + 5]);
        store.give(vec![2.0; MIN_ELEMENTS]);
        assert_eq!(store.take(MIN_ELEMENTS), Some(vec![2.0; MIN_ELEMENTS]), "the nearest in size");
        assert_eq!(store.take(MIN_ELEMENTS), Some(vec![1.0; MIN_ELEMENTS]));
        store.give(vec![3.0; 3 * MIN_ELEMENTS]);
        assert_eq!(store.take(MIN_ELEMENTS), None, "one that is far too large stays");
        assert_eq!(store.take(4 * MIN_ELEMENTS), None, "one that is too small does too");
        // Fewer elements in a buffer that is large enough are filled up.
        let mut short = vec![4.0; 4 * MIN_ELEMENTS];
        short.truncate(7);
        store.give(short);
        assert_eq!(store.take(4 * MIN_ELEMENTS).map(|buffer| buffer.len()), Some(4 * MIN_ELEMENTS));
    }

    #[test]
    fn what_a_step_does_not_use_goes() {
        let mut store = empty();
        store.give(vec![1.0; MIN_ELEMENTS]);
        store.end_turn();
        let buffer = store.take(MIN_ELEMENTS).expect("kept for the next step");
        store.give(buffer);
        store.end_turn();
        store.end_turn();
        assert_eq!(store.take(MIN_ELEMENTS), None);
    }

    #[test]
    fn a_tensor_without_values_is_an_error_and_no_more() {
        let x = Tensor::from_vec(vec![1f32; MIN_ELEMENTS], (MIN_ELEMENTS, 1), &candle_core::Device::Cpu).unwrap();
        give_tensor(&x);
        assert!(on_values(&x, |_| Ok(())).is_err());
    }
}
