//! Plain Rust on four lanes. Always works.

use super::unit::Unit;

#[derive(Clone, Copy)]
pub(super) struct Generic;

// SAFETY (all): the caller's pointers are valid for what is read or written.
impl Unit for Generic {
    type Weights = [i16; 16];
    type Nibbles = [i16; 16];
    type Sums = [i32; 4];
    type Column = ();
    type Floats = f32;

    const STEP: usize = 16;
    const BLOCKS: usize = 1;
    const LANES: usize = 4;
    const WIDE: bool = true;
    const WIDE_BLOCKS: bool = true;
    const OFFSET: i32 = 0;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; 4]
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {}
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe { from.cast::<[i8; 16]>().read() }.map(i16::from)
    }
    #[inline(always)]
    unsafe fn column(_: Self::Column, _: Self::Weights) -> Self::Column {}
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        let x = unsafe { x.cast::<[i16; 16]>().read_unaligned() };
        let mut out = sums;
        for lane in 0..4 {
            for i in 0..4 {
                out[lane] = out[lane].wrapping_add(i32::from(w[i * 4 + lane]) * i32::from(x[i * 4 + lane]));
            }
        }
        out
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, _: Self::Column) -> i32 {
        sums.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        let bytes = unsafe { from.cast::<[u8; 16]>().read() };
        [bytes.map(|byte| i16::from(byte & 15)), bytes.map(|byte| i16::from(byte >> 4))]
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe { Self::dot(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn middle() -> Self::Nibbles {
        [8; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self::Sums {
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sums: Self::Sums) {
        unsafe { to.cast::<[i32; 4]>().write_unaligned(sums) }
    }
    #[inline(always)]
    unsafe fn no_floats() -> Self::Floats {
        0.0
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32, _: usize) -> Self::Floats {
        unsafe { from.read() }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        // One block: its sum is exact in float32.
        floats + unsafe { Self::total(sums, ()) } as f32 * scales
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        floats
    }
}
