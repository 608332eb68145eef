//! AVX2. `vpmaddubsw` saturates pairs of 8-bit products at 16 bits, which int8 can exceed: int8 weights are widened and
//! multiplied by 16-bit inputs with `vpmaddwd`, exactly. Nibbles cannot exceed it (2 · 15 · 127).

use super::unit::{Op, Unit};
use std::arch::x86_64::*;

/// Runs `op` with AVX2 enabled.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<O: Op>(op: O) -> O::Out {
    // SAFETY: this function's own features are what `Avx2` needs.
    unsafe { op.run::<Avx2>() }
}

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// # Safety
/// AVX2 is available.
#[inline(always)]
pub(super) unsafe fn total(sums: __m256i) -> i32 {
    unsafe {
        let halves = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
        _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b10_11_00_01>(pairs)))
    }
}

/// # Safety
/// AVX2 is available.
#[inline(always)]
pub(super) unsafe fn total_floats(floats: __m256) -> f32 {
    unsafe {
        let halves = _mm_add_ps(_mm256_castps256_ps128(floats), _mm256_extractf128_ps::<1>(floats));
        let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
    }
}

/// # Safety
/// AVX2 is available, and 32 bytes can be read.
#[inline(always)]
pub(super) unsafe fn nibbles(from: *const u8) -> [__m256i; 2] {
    unsafe {
        let (bytes, mask) = (_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(15));
        [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
    }
}

/// # Safety
/// AVX2 is available, and the scales of two blocks can be read.
#[inline(always)]
pub(super) unsafe fn scales(from: *const f32, per: usize) -> __m256 {
    unsafe {
        if per == 1 {
            _mm256_set_m128(_mm_set1_ps(from.add(1).read()), _mm_set1_ps(from.read()))
        } else {
            _mm256_set1_ps(from.read())
        }
    }
}

// SAFETY (all): the caller's pointers are valid for what is read or written, and the machine has AVX2 and FMA.
impl Unit for Avx2 {
    type Weights = [__m256i; 2];
    type Nibbles = __m256i;
    type Sums = __m256i;
    type Column = ();
    type Floats = __m256;

    const STEP: usize = 32;
    const BLOCKS: usize = 2;
    const LANES: usize = 8;
    const WIDE: bool = true;
    const WIDE_BLOCKS: bool = false;
    const OFFSET: i32 = 0;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn no_column() -> Self::Column {}
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        unsafe {
            let half = |at: *const i8| _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()));
            [half(from), half(from.add(16))]
        }
    }
    #[inline(always)]
    unsafe fn column(_: Self::Column, _: Self::Weights) -> Self::Column {}
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums {
        unsafe {
            let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(w[0], _mm256_loadu_si256(x.cast())));
            _mm256_add_epi32(sums, _mm256_madd_epi16(w[1], _mm256_loadu_si256(x.add(32).cast())))
        }
    }
    #[inline(always)]
    unsafe fn total(sums: Self::Sums, _: Self::Column) -> i32 {
        unsafe { total(sums) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe { nibbles(from) }
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums {
        unsafe {
            let pairs = _mm256_maddubs_epi16(w, _mm256_loadu_si256(x.cast()));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
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
        unsafe { scales(from, per) }
    }
    #[inline(always)]
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats {
        unsafe { _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, floats) }
    }
    #[inline(always)]
    unsafe fn total_floats(floats: Self::Floats) -> f32 {
        unsafe { total_floats(floats) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
