//! `vpdpbusd`, which adds four products of an unsigned and a signed byte to each 32-bit lane: in 512 bits (AVX-512 VNNI)
//! and in 256 (AVX-VNNI). Int8 weights are made unsigned by adding 128, which is one exclusive or. It does not saturate.

use super::unit::{Op, Unit};
use std::arch::x86_64::*;

pub(super) fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// Runs `op` with AVX-512 VNNI enabled.
#[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn run_avx512<O: Op>(op: O) -> O::Out {
    // SAFETY: this function's own features are what `Vnni512` needs.
    unsafe { op.run::<Vnni512>() }
}

/// Runs `op` with AVX-VNNI enabled.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(super) fn run_avx<O: Op>(op: O) -> O::Out {
    // SAFETY: this function's own features are what `Vnni256` needs.
    unsafe { op.run::<Vnni256>() }
}

#[derive(Clone, Copy)]
pub(super) struct Vnni512;

// SAFETY (all): the caller's pointers are valid for what is read or written, and the machine has the features.
impl Unit for Vnni512 {
    type Weights = __m512i;
    type Nibbles = __m512i;
    type Sums = __m512i;
    type Column = ();
    type Floats = __m512;

    const STEP: usize = 64;
    const BLOCKS: usize = 4;
    const LANES: usize = 16;
    const WIDE: bool = false;
    const WIDE_BLOCKS: bool = false;
    const OFFSET: i32 = 128;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {}
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe { _mm512_xor_si512(_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn column(_: Self::Column, _: Self::Weights) -> Self::Column {}
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        unsafe { _mm512_dpbusd_epi32(sums, w, _mm512_loadu_si512(x.cast())) }
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, _: Self::Column) -> i32 {
        unsafe { _mm512_reduce_add_epi32(sums) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe {
            let (bytes, mask) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
        }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe { Self::dot(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn middle() -> Self::Nibbles {
        unsafe { _mm512_set1_epi8(8) }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self::Sums {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sums: Self::Sums) {
        unsafe { _mm512_storeu_si512(to.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn no_floats() -> Self::Floats {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32, per: usize) -> Self::Floats {
        unsafe {
            match per {
                1 => {
                    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                    _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(_mm_loadu_ps(from)))
                }
                2 => {
                    let pair = _mm_castsi128_ps(_mm_loadl_epi64(from.cast()));
                    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
                    _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(pair))
                }
                _ => _mm512_set1_ps(from.read()),
            }
        }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        unsafe { _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scales, floats) }
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        unsafe { _mm512_reduce_add_ps(floats) }
    }
    #[inline(always)]
    unsafe fn quantise(x: *const f32, cols: usize, inverse: f32, to: *mut i8) -> i32 {
        // Conversion rounds to the nearest, ties to even.
        unsafe {
            let scale = _mm512_set1_ps(inverse);
            let mut sums = _mm512_setzero_si512();
            let mut i = 0;
            while i + 16 <= cols {
                let q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x.add(i)), scale));
                sums = _mm512_add_epi32(sums, q);
                _mm_storeu_si128(to.add(i).cast(), _mm512_cvtepi32_epi8(q));
                i += 16;
            }
            let mut sum = _mm512_reduce_add_epi32(sums);
            while i < cols {
                let q = super::unit::round(*x.add(i) * inverse);
                *to.add(i) = q;
                sum += i32::from(q);
                i += 1;
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Vnni256;

// SAFETY (all): as above.
impl Unit for Vnni256 {
    type Weights = __m256i;
    type Nibbles = __m256i;
    type Sums = __m256i;
    type Column = ();
    type Floats = __m256;

    const STEP: usize = 32;
    const BLOCKS: usize = 2;
    const LANES: usize = 8;
    const WIDE: bool = false;
    const WIDE_BLOCKS: bool = false;
    const OFFSET: i32 = 128;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {}
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe { _mm256_xor_si256(_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn column(_: Self::Column, _: Self::Weights) -> Self::Column {}
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        unsafe { _mm256_dpbusd_avx_epi32(sums, w, _mm256_loadu_si256(x.cast())) }
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, _: Self::Column) -> i32 {
        unsafe { super::avx2::total(sums) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe { super::avx2::nibbles(from) }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe { Self::dot(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn middle() -> Self::Nibbles {
        unsafe { _mm256_set1_epi8(8) }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self::Sums {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sums: Self::Sums) {
        unsafe { _mm256_storeu_si256(to.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn no_floats() -> Self::Floats {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32, per: usize) -> Self::Floats {
        unsafe { super::avx2::scales(from, per) }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        unsafe { _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, floats) }
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        unsafe { super::avx2::total_floats(floats) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
