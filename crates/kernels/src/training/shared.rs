//! A mutable slice of any type whose disjoint elements are written by several threads.

use std::marker::PhantomData;

/// As [`crate::parallel::Disjoint`], for types other than float32.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `at`, whose caller promises that no two threads use the same element.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// # Safety
    /// No other reference to this element is alive.
    #[allow(clippy::mut_from_ref)] // That is what this type is for; the caller keeps the elements apart.
    pub unsafe fn at(&self, index: usize) -> &mut T {
        assert!(index < self.len, "an element lies outside its slice");
        // SAFETY: in bounds as just checked; not aliased, as the caller promises.
        unsafe { &mut *self.start.add(index) }
    }
}
