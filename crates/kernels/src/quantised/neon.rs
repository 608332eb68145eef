//! NEON with the dot product extension: `sdot` adds four products of signed bytes to each 32-bit lane. Written as
//! assembly because its intrinsic is not stable.

use super::unit::{Op, Unit};
use std::arch::aarch64::*;
use std::arch::asm;

/// Runs `op` with the dot product enabled.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn run<O: Op>(op: O) -> O::Out {
    // SAFETY: this function's own features are what `NeonDot` needs.
    unsafe { op.run::<NeonDot>() }
}

#[derive(Clone, Copy)]
pub(super) struct NeonDot;

#[inline(always)]
unsafe fn sdot(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut out = sums;
    // SAFETY: the machine has the instruction, which touches these registers alone.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {out:v}.4s, {a:v}.16b, {b:v}.16b",
            out = inout(vreg) out,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

// SAFETY (all): the caller's pointers are valid for what is read or written, and the machine has the instruction.
impl Unit for NeonDot {
    type Weights = int8x16_t;
    type Nibbles = int8x16_t;
    type Sums = int32x4_t;
    type Column = ();
    type Floats = float32x4_t;

    const STEP: usize = 16;
    const BLOCKS: usize = 1;
    const LANES: usize = 4;
    const WIDE: bool = false;
    const WIDE_BLOCKS: bool = false;
    const OFFSET: i32 = 0;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {}
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe { vld1q_s8(from) }
    }
    #[inline(always)]
    unsafe fn column(_: Self::Column, _: Self::Weights) -> Self::Column {}
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        unsafe { sdot(sums, w, vld1q_s8(x.cast())) }
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, _: Self::Column) -> i32 {
        unsafe { vaddvq_s32(sums) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe {
            let bytes = vld1q_u8(from);
            let low = vandq_u8(bytes, vdupq_n_u8(15));
            [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))]
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe { Self::dot(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn middle() -> Self::Nibbles {
        unsafe { vdupq_n_s8(8) }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self::Sums {
        unsafe { vld1q_s32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sums: Self::Sums) {
        unsafe { vst1q_s32(to, sums) }
    }
    #[inline(always)]
    unsafe fn no_floats() -> Self::Floats {
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32, _: usize) -> Self::Floats {
        unsafe { vld1q_dup_f32(from) }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        unsafe { vfmaq_f32(floats, vcvtq_f32_s32(sums), scales) }
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        unsafe { vaddvq_f32(floats) }
    }
}
