//! The allocator, with the size of the last allocation that failed: where nothing handles the failure the module traps
//! without a word, and this is how JavaScript learns that memory ran out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wasm_bindgen::prelude::*;

struct Recording;

static FAILED: AtomicUsize = AtomicUsize::new(0);

impl Recording {
    fn record(pointer: *mut u8, bytes: usize) -> *mut u8 {
        FAILED.store(if pointer.is_null() { bytes } else { 0 }, Ordering::Relaxed);
        pointer
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::record(System.alloc(layout), layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        System.dealloc(pointer, layout);
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::record(System.alloc_zeroed(layout), layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::record(System.realloc(pointer, layout, size), size)
    }
}

#[global_allocator]
static ALLOCATOR: Recording = Recording;

/// Bytes of the last allocation if it failed, else 0. Asked after a trap, to tell a full memory from a bug.
#[wasm_bindgen]
pub fn failed_allocation() -> usize {
    FAILED.load(Ordering::Relaxed)
}
