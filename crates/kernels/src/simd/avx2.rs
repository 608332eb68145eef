//! AVX2 with FMA and F16C: 8 lanes, 16 registers.

use super::{Op, Simd};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Runs `op` with AVX2 enabled.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<O: Op>(op: O) -> O::Out {
    // SAFETY: this function's own features are what `Avx2` needs.
    unsafe { op.run::<Avx2>() }
}

/// Lanes below `count` have all bits set.
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

/// The first `count < 8` halves, the others 0.
#[inline(always)]
unsafe fn first_halves(from: *const u16, count: usize) -> __m128i {
    let mut halves = [0u16; 8];
    unsafe {
        std::ptr::copy_nonoverlapping(from, halves.as_mut_ptr(), count);
        _mm_loadu_si128(halves.as_ptr().cast())
    }
}

#[inline(always)]
unsafe fn widen_bf16(halves: __m128i) -> __m256 {
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves))) }
}

// SAFETY (all): the caller's pointers are valid for the lanes that are read or written, and the machine has AVX2, FMA
// and F16C.
impl Simd for Avx2 {
    type V = __m256;
    const N: usize = 8;
    const FMA: bool = true;
    const UNROLL: usize = 4;
    const TILE_ROWS: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V {
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }
    #[inline(always)]
    unsafe fn prefetch<T>(from: *const T) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        unsafe { widen_bf16(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16_first(from: *const u16, count: usize) -> Self::V {
        unsafe { widen_bf16(first_halves(from, count)) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16_first(from: *const u16, count: usize) -> Self::V {
        unsafe { _mm256_cvtph_ps(first_halves(from, count)) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize) {
        unsafe { _mm256_maskstore_ps(to, mask(count), v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        unsafe {
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            let mut out = [0f32; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }
}
