//! Memory of activations and gradients, used again from op to op and from step to step.
//!
//! A step of a small model makes some 300 tensors of a megabyte. Asked for anew, each costs a pass of zeros on one thread, and
//! those that the allocator has given back to the system a page fault for every 4 KiB: a seventh of the step. So the tape gives
//! back what it is done with, and ops take from there. Buffers belong to the thread that trains.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use crate::error::Result;
use crate::weight::try_zeros;

/// Elements below which a buffer is not worth keeping.
const MIN_ELEMENTS: usize = 4 * 1024;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffers: Vec::new(), turn: 0 }) };
}

struct Kept {
    /// The turn in which each was given back, and the buffer.
    buffers: Vec<(u64, Vec<f32>)>,
    turn: u64,
}

impl Kept {
    /// The buffer nearest in size, of at least `len` elements and at most twice as many; of equals the last one that was given
    /// back, which is likely still in a cache.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let fits = |have: usize| have >= len && have / 2 <= len;
        let found = self.buffers.iter().enumerate().filter(|(_, (_, buffer))| fits(buffer.capacity()));
        let (index, _) = found.min_by_key(|(index, (_, buffer))| (buffer.capacity(), usize::MAX - index))?;
        let (_, mut buffer) = self.buffers.remove(index);
        buffer.resize(len, 0.0);
        Some(buffer)
    }
}

/// A buffer of `len` elements whose contents are unspecified, or `OUT_OF_MEMORY`.
pub fn take(len: usize) -> Result<Vec<f32>> {
    if len >= MIN_ELEMENTS {
        if let Some(buffer) = KEPT.with(|kept| kept.borrow_mut().take(len)) {
            return Ok(buffer);
        }
    }
    try_zeros(len)
}

/// As [`take`], of zeros.
pub fn take_zeros(len: usize) -> Result<Vec<f32>> {
    let mut buffer = take(len)?;
    buffer.fill(0.0);
    Ok(buffer)
}

/// Keeps a buffer for [`take`].
pub fn give(buffer: Vec<f32>) {
    if buffer.capacity() >= MIN_ELEMENTS {
        KEPT.with(|kept| {
            let mut kept = kept.borrow_mut();
            let turn = kept.turn;
            kept.buffers.push((turn, buffer));
        });
    }
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

/// Ends a step: what it has not used goes, so that there is never more than the largest step takes.
pub fn end_turn() {
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        let turn = kept.turn;
        kept.buffers.retain(|(given, _)| *given == turn);
        kept.turn += 1;
    });
}

/// Frees everything that is kept.
pub fn clear() {
    KEPT.with(|kept| kept.borrow_mut().buffers = Vec::new());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::on_values;

    #[test]
    fn what_is_given_is_taken_again() {
        clear();
        give(vec![1.0; MIN_ELEMENTS + 5]);
        give(vec![2.0; MIN_ELEMENTS]);
        assert_eq!(take(MIN_ELEMENTS).unwrap(), vec![2.0; MIN_ELEMENTS], "the nearest in size");
        let zeros = take_zeros(MIN_ELEMENTS + 1).unwrap();
        assert!(zeros.len() == MIN_ELEMENTS + 1 && zeros.iter().all(|x| *x == 0.0));
        give(vec![3.0; 3 * MIN_ELEMENTS]);
        assert_eq!(take(MIN_ELEMENTS).unwrap()[0], 0.0, "one that is far too large stays");
        clear();
    }

    #[test]
    fn what_a_step_does_not_use_goes() {
        clear();
        give(vec![1.0; MIN_ELEMENTS]);
        end_turn();
        let buffer = take(MIN_ELEMENTS).unwrap();
        assert_eq!(buffer[0], 1.0);
        give(buffer);
        end_turn();
        end_turn();
        assert_eq!(take(MIN_ELEMENTS).unwrap()[0], 0.0);
    }

    #[test]
    fn a_tensor_without_values_is_an_error_and_no_more() {
        clear();
        let x = Tensor::from_vec(vec![1f32; MIN_ELEMENTS], (MIN_ELEMENTS, 1), &candle_core::Device::Cpu).unwrap();
        give_tensor(&x);
        assert!(on_values(&x, |_| Ok(())).is_err());
        clear();
    }
}
