//! The only module that knows threads. Without them (WebAssembly built without atomics) everything runs on the caller.
//!
//! Work is split over ranges of outputs, so results are the same for every number of threads.

#[cfg(any(not(target_family = "wasm"), target_feature = "atomics"))]
mod pool;
#[cfg(any(not(target_family = "wasm"), target_feature = "atomics"))]
mod watch;

use crate::error::KernelError;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// 0: not chosen yet.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Upper bound on [`set_threads`].
const MAX_THREADS: usize = 256;

/// Number of threads that kernels use: as set, else `SWITCH_NUM_THREADS`, else what the machine has.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => set_threads(0),
        n => n,
    }
}

/// Sets the number of threads that kernels use from now on; 0 chooses the default. Returns the number in use.
pub fn set_threads(n: usize) -> usize {
    let n = if cfg!(all(target_family = "wasm", not(target_feature = "atomics"))) {
        1
    } else if n > 0 {
        n.min(MAX_THREADS)
    } else {
        let variable = std::env::var("SWITCH_NUM_THREADS").ok().and_then(|v| v.parse::<usize>().ok());
        let machine = || std::thread::available_parallelism().map_or(1 + helpers(), |n| n.get());
        variable.filter(|&n| n > 0).unwrap_or_else(machine).min(MAX_THREADS)
    };
    THREADS.store(n, Ordering::Relaxed);
    n
}

/// Threads that came in by [`help`].
fn helpers() -> usize {
    #[cfg(all(target_family = "wasm", target_feature = "atomics"))]
    return pool::workers();
    #[cfg(not(all(target_family = "wasm", target_feature = "atomics")))]
    0
}

/// Lends the calling thread to the kernels, for ever: WebAssembly cannot start threads, so JavaScript's workers come in
/// here. Call [`set_threads`] with their number and one more. Returns at once where a build has no threads, or starts its own.
pub fn help() {
    #[cfg(all(target_family = "wasm", target_feature = "atomics"))]
    pool::help();
}

/// Calls `f` with each of `0..count`, on up to [`threads`] threads, in no particular order. Tasks are taken one by one,
/// so uneven ones balance out.
pub fn for_each_task(count: usize, f: impl Fn(usize) + Sync) {
    #[cfg(any(not(target_family = "wasm"), target_feature = "atomics"))]
    pool::run(count, threads(), &f);
    #[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
    (0..count).for_each(f);
}

/// Ranges per thread, so that a thread that is held up by other work does not hold up the others.
const RANGES_PER_THREAD: usize = 4;

/// Calls `f` on contiguous ranges that cover `0..n`, each a multiple of `grain` (but the last), in parallel where there
/// are threads.
pub fn for_each_range(n: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    let threads = threads();
    if n == 0 {
        return;
    }
    if threads == 1 {
        return f(0..n);
    }
    let grain = grain.max(1);
    let size = n.div_ceil(threads * RANGES_PER_THREAD).checked_next_multiple_of(grain).unwrap_or(n).min(n);
    for_each_task(n.div_ceil(size), |i| f(i * size..(i + 1).saturating_mul(size).min(n)));
}

/// Calls `f` with each of `0..parts` and contiguous ranges that cover `0..n`, as [`for_each_range`] does with one part.
pub(crate) fn for_each_part_and_range(parts: usize, n: usize, grain: usize, f: impl Fn(usize, Range<usize>) + Sync) {
    if parts == 0 || n == 0 {
        return;
    }
    let threads = threads();
    let ranges = if threads == 1 { 1 } else { (threads * RANGES_PER_THREAD).div_ceil(parts) };
    let size = n.div_ceil(ranges).checked_next_multiple_of(grain.max(1)).unwrap_or(n).min(n);
    // Parts that need the same range of what is shared follow each other.
    for_each_task(parts * n.div_ceil(size), |task| {
        let (part, start) = (task % parts, task / parts * size);
        f(part, start..(start + size).min(n));
    });
}

/// Splits `data`, rows of `width` elements, in disjoint chunks of at least `grain` rows and calls `f` with the index of
/// each chunk's first row and the chunk. Elements past the last whole row go with the last chunk.
pub fn for_each_row_chunk(data: &mut [f32], width: usize, grain: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = data.len() / width.max(1);
    let data = Disjoint::new(data);
    for_each_range(rows, grain, |range| {
        let elements = range.start * width..if range.end == rows { data.len() } else { range.end * width };
        // SAFETY: the ranges of `for_each_range` do not overlap, and lie in the slice.
        f(range.start, unsafe { data.slice(elements) });
    });
}

/// The first error of a parallel region's tasks.
#[derive(Default)]
pub(crate) struct Failure(Mutex<Option<KernelError>>);

impl Failure {
    pub fn note(&self, result: Result<(), KernelError>) {
        if let Err(error) = result {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
        }
    }

    pub fn into_result(self) -> Result<(), KernelError> {
        self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
    }
}

/// A mutable slice whose disjoint parts are written by several threads.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: access goes through `slice`, whose caller promises that no two live parts overlap.
unsafe impl Sync for Disjoint<'_> {}
// SAFETY: as above; f32 may be sent between threads.
unsafe impl Send for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: std::marker::PhantomData }
    }

    /// The first element, for callers that keep their own parts apart.
    pub(crate) fn as_ptr(&self) -> *mut f32 {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Parts that are alive at the same time do not overlap.
    #[allow(clippy::mut_from_ref)] // That is what this type is for; the caller keeps the parts apart.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of a slice lies outside it");
        // SAFETY: in bounds as just checked; not aliased, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
