//! WebAssembly SIMD128: 4 lanes. Relaxed SIMD's multiply-add is in a build of its own: one such instruction anywhere
//! makes some engines refuse the module.

use super::generic::{widen_bf16, widen_f16};
use super::Simd;
use std::arch::wasm32::*;

#[derive(Clone, Copy)]
pub(super) struct Simd128;

#[inline(always)]
unsafe fn first<T: Copy>(from: *const T, count: usize, widen: impl Fn(T) -> f32) -> v128 {
    let mut lanes = [0f32; 4];
    let mut i = 0;
    while i < count && i < 4 {
        // SAFETY: the caller's pointer is valid for `count` elements.
        lanes[i] = widen(unsafe { *from.add(i) });
        i += 1;
    }
    f32x4(lanes[0], lanes[1], lanes[2], lanes[3])
}

// SAFETY (all): the caller's pointers are valid for the lanes that are read or written.
impl Simd for Simd128 {
    type V = v128;
    const N: usize = 4;
    /// Relaxed SIMD's may or may not, and for single numbers there is none.
    const FMA: bool = false;
    const UNROLL: usize = 1;
    const TILE_ROWS: usize = 2;
    const INTERLEAVED: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V {
        unsafe { first(from, count, |x| x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        unsafe { u32x4_shl(u32x4_load_extend_u16x4(from), 16) }
    }
    #[inline(always)]
    unsafe fn load_bf16_first(from: *const u16, count: usize) -> Self::V {
        unsafe { first(from, count, widen_bf16) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        // As `widen_f16`, on four lanes.
        unsafe {
            let bits = u32x4_load_extend_u16x4(from);
            let magnitude = u32x4_shl(v128_and(bits, u32x4_splat(0x7fff)), 13);
            let sign = u32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16);
            let finite = f32x4_mul(magnitude, u32x4_splat(0x7780_0000));
            let special = v128_or(magnitude, u32x4_splat(0x7f80_0000));
            let is_special = u32x4_ge(magnitude, u32x4_splat(0x0f80_0000));
            v128_or(sign, v128_bitselect(special, finite, is_special))
        }
    }
    #[inline(always)]
    unsafe fn load_f16_first(from: *const u16, count: usize) -> Self::V {
        unsafe { first(from, count, widen_f16) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { v128_store(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize) {
        let mut lanes = [0f32; 4];
        unsafe {
            v128_store(lanes.as_mut_ptr().cast(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        #[cfg(target_feature = "relaxed-simd")]
        return f32x4_relaxed_madd(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        f32x4_add(f32x4_mul(a, b), c)
    }
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        let ab = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(v[0], v[1]), i32x4_shuffle::<2, 6, 3, 7>(v[0], v[1]));
        let cd = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(v[2], v[3]), i32x4_shuffle::<2, 6, 3, 7>(v[2], v[3]));
        let sums = f32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd));
        let mut out = [0f32; 4];
        // SAFETY: four lanes fit.
        unsafe { v128_store(out.as_mut_ptr().cast(), sums) };
        out
    }
}
