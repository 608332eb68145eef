//! Buffers that a thread keeps between calls, so that steady work does not allocate.

use crate::error::KernelError;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers kept per thread, and elements of all of them together (128 MiB); what goes past that is given back.
const MAX_KEPT: usize = 12;
const MAX_KEPT_ELEMENTS: usize = 32 << 20;

/// A buffer of float32 with unspecified contents, aligned to a cache line, returned to its thread when dropped.
pub(crate) struct Scratch {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

/// Elements that a buffer's start is aligned to: a cache line, and the widest vector.
pub(crate) const ALIGNMENT: usize = 16;

/// Takes a buffer of `len` elements; [`KernelError::TooLarge`] when there is no memory for it.
pub(crate) fn take(what: &'static str, len: usize) -> Result<Scratch, KernelError> {
    let needed = len.checked_add(ALIGNMENT).ok_or(KernelError::TooLarge { what })?;
    let mut data = FREE
        .with(|free| {
            let mut free = free.borrow_mut();
            // The smallest that is large enough, else the largest.
            let best = (0..free.len()).min_by_key(|&i| match free[i].len() {
                have if have >= needed => (0, have),
                have => (1, usize::MAX - have),
            });
            best.map(|i| free.swap_remove(i))
        })
        .unwrap_or_default();
    if data.len() < needed {
        // Without copying what it held.
        data = Vec::new();
        data.try_reserve_exact(needed).map_err(|_| KernelError::TooLarge { what })?;
        data.resize(needed, 0.0);
    }
    let start = data.as_ptr().align_offset(ALIGNMENT * size_of::<f32>()).min(ALIGNMENT);
    Ok(Scratch { data, start, len })
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        // A thread that is ending has no place for it any more.
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut() {
                let kept: usize = free.iter().map(Vec::len).sum();
                if free.len() < MAX_KEPT && kept + data.len() <= MAX_KEPT_ELEMENTS {
                    free.push(data);
                }
            }
        });
    }
}
