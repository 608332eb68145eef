//! WebAssembly. SIMD128 multiplies pairs of 16-bit integers (`i32x4.dot_i16x8_s`), so that weights are widened as they
//! are loaded and inputs beforehand. Relaxed SIMD's dot product takes bytes, of which one operand has 7 bits and no sign:
//! that is the magnitude of the weights, whose sign goes to the inputs.

use super::unit::Unit;
use std::arch::wasm32::*;

#[derive(Clone, Copy)]
pub(super) struct Unit128;

const RELAXED: bool = cfg!(target_feature = "relaxed-simd");

/// The products of 16 bytes, `a` signed and `b` of 7 bits, added to `sums`.
#[inline(always)]
fn dot_bytes(a: v128, b: v128, sums: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    return i32x4_relaxed_dot_i8x16_i7x16_add(a, b, sums);
    #[cfg(not(target_feature = "relaxed-simd"))]
    {
        let _ = (a, b);
        sums
    }
}

// SAFETY (all): the caller's pointers are valid for what is read or written.
impl Unit for Unit128 {
    /// Two vectors of 16-bit integers; relaxed: magnitudes, and all bits set where negative.
    type Weights = [v128; 2];
    type Nibbles = [v128; 2];
    type Sums = v128;
    /// Relaxed: what the complement of inputs, instead of their negative, leaves out.
    type Column = v128;
    type Floats = v128;

    const STEP: usize = 16;
    const BLOCKS: usize = 1;
    const LANES: usize = 4;
    const WIDE: bool = !RELAXED;
    const WIDE_BLOCKS: bool = !RELAXED;
    const OFFSET: i32 = 0;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        i32x4_splat(0)
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {
        i32x4_splat(0)
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe {
            if RELAXED {
                let w = v128_load(from.cast());
                // -128, which the format does not use, has a magnitude of more than 7 bits.
                [u8x16_min(i8x16_abs(w), i8x16_splat(127)), i8x16_shr(w, 7)]
            } else {
                [i16x8_load_extend_i8x8(from), i16x8_load_extend_i8x8(from.add(8))]
            }
        }
    }
    #[inline(always)]
    unsafe fn column(column: Self::Column, w: Self::Weights) -> Self::Column {
        if RELAXED {
            dot_bytes(w[1], w[0], column)
        } else {
            column
        }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        unsafe {
            if RELAXED {
                // The complement of x is -x - 1.
                dot_bytes(v128_xor(v128_load(x.cast()), w[1]), w[0], sums)
            } else {
                let sums = i32x4_add(sums, i32x4_dot_i16x8(w[0], v128_load(x.cast())));
                i32x4_add(sums, i32x4_dot_i16x8(w[1], v128_load(x.add(16).cast())))
            }
        }
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, column: Self::Column) -> i32 {
        let sums = i32x4_sub(sums, column);
        let pairs = i32x4_add(sums, i32x4_shuffle::<2, 3, 0, 1>(sums, sums));
        i32x4_extract_lane::<0>(pairs).wrapping_add(i32x4_extract_lane::<1>(pairs))
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe {
            let bytes = v128_load(from.cast());
            let (low, high) = (v128_and(bytes, u8x16_splat(15)), u8x16_shr(bytes, 4));
            if RELAXED {
                [[low, low], [high, high]]
            } else {
                let wide = |v| [u16x8_extend_low_u8x16(v), u16x8_extend_high_u8x16(v)];
                [wide(low), wide(high)]
            }
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe {
            if RELAXED {
                dot_bytes(v128_load(x.cast()), w[0], sums)
            } else {
                Self::dot(sums, w, x)
            }
        }
    }
    #[inline(always)]
    unsafe fn middle() -> Self::Nibbles {
        let eight = if RELAXED { u8x16_splat(8) } else { u16x8_splat(8) };
        [eight, eight]
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self::Sums {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sums: Self::Sums) {
        unsafe { v128_store(to.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn no_floats() -> Self::Floats {
        f32x4_splat(0.0)
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32, _: usize) -> Self::Floats {
        unsafe { v128_load32_splat(from.cast()) }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        f32x4_add(floats, f32x4_mul(f32x4_convert_i32x4(sums), scales))
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        let pairs = f32x4_add(floats, i32x4_shuffle::<2, 3, 0, 1>(floats, floats));
        f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
    }
}
