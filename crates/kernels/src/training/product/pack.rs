//! Packing operands in bfloat16 parts for AMX, edges filled up with zeros, and writing what comes out.

use crate::amx::{self, transpose, DEPTH, PARTS, SIDE, TILE};
use std::arch::x86_64::*;

/// `count` rows or columns (32 at most) of `depth` summed elements; lines of the source are `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Source<T> {
    pub from: *const T,
    pub stride: usize,
    pub count: usize,
    pub depth: usize,
}

/// Elements that widen to float32.
pub(super) trait Wide: Copy {
    /// The elements that the mask names, the others 0.
    ///
    /// # Safety
    /// They are there, and the machine has AVX-512.
    unsafe fn load(from: *const Self, mask: u16) -> __m512;
}

impl Wide for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn load(from: *const f32, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

impl Wide for Bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn load(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct F16(u16);

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn load(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) })
    }
}

/// Lines ahead of the one that is read that memory is asked for where lines lie apart, which the processor does not do by
/// itself: half of the packing's time was waiting.
const AHEAD: usize = 16;

#[inline(always)]
fn ask<const HINT: i32>(at: *const i8) {
    // SAFETY: asking for memory has no effect but on the time that using it takes, whatever the address.
    unsafe { _mm_prefetch::<HINT>(at) };
}

/// Asks for 32 elements of a line further on, which need not be there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn fetch<T>(source: Source<T>, line: usize) {
    let from = source.from.wrapping_add((line + AHEAD) * source.stride);
    for at in (0..32 * size_of::<T>()).step_by(64) {
        ask::<_MM_HINT_T0>(from.wrapping_byte_add(at).cast());
    }
}

/// Masks of the first `count` of 32 lanes.
#[inline(always)]
fn masks(count: usize) -> [u16; 2] {
    let all = if count >= 32 { u32::MAX } else { (1u32 << count) - 1 };
    [all as u16, (all >> 16) as u16]
}

/// Packs rows as left operand: for each 32 summed elements, for each part, two tiles of 16 rows.
///
/// # Safety
/// The source's rows hold `depth` elements; `to` holds the steps, aligned to 64 bytes. The machine has AVX-512 and its
/// bfloat16.
pub(super) unsafe fn left_by_rows(parts: usize, source: Source<f32>, scale: f32, to: *mut u8) {
    // SAFETY: the caller's promises.
    unsafe {
        match parts {
            1 => left_by_rows_of::<1>(source, scale, to),
            2 => left_by_rows_of::<2>(source, scale, to),
            _ => left_by_rows_of::<PARTS>(source, scale, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn left_by_rows_of<const COUNT: usize>(source: Source<f32>, scale: f32, to: *mut u8) {
    let Source { from, stride, count, depth } = source;
    let scale = _mm512_set1_ps(scale);
    for row in 0..SIDE {
        let to = to.wrapping_add(row / 16 * TILE + row % 16 * 64);
        for step in 0..depth.div_ceil(DEPTH) {
            let left = if row < count { depth - step * DEPTH } else { 0 };
            let [low, high] = masks(left);
            // SAFETY: the caller's promises; masked elements are not touched.
            unsafe {
                let from = from.wrapping_add(row * stride + step * DEPTH);
                let values = [f32::load(from, low), f32::load(from.wrapping_add(16), high)];
                let values = [_mm512_mul_ps(values[0], scale), _mm512_mul_ps(values[1], scale)];
                let to = to.add(step * amx::step_bytes(COUNT));
                for (part, bits) in split::<COUNT>(values).into_iter().enumerate() {
                    _mm512_store_si512(to.add(part * 2 * TILE).cast(), bits);
                }
            }
        }
    }
}

/// Packs columns as left operand, transposed on the way.
///
/// # Safety
/// As [`left_by_rows`]; the source has `depth` lines of `count` elements.
pub(super) unsafe fn left_by_columns(parts: usize, source: Source<f32>, scale: f32, to: *mut u8) {
    // SAFETY: the caller's promises.
    unsafe {
        match parts {
            1 => left_by_columns_of::<1>(source, scale, to),
            2 => left_by_columns_of::<2>(source, scale, to),
            _ => left_by_columns_of::<PARTS>(source, scale, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn left_by_columns_of<const COUNT: usize>(source: Source<f32>, scale: f32, to: *mut u8) {
    let scale = _mm512_set1_ps(scale);
    for step in 0..source.depth.div_ceil(DEPTH) {
        for half in 0..2 {
            // Pairs of summed elements of 16 rows, for each part.
            let mut pairs = [[_mm512_setzero_ps(); 16]; COUNT];
            for pair in 0..16 {
                if half == 0 {
                    fetch(source, step * DEPTH + 2 * pair);
                    fetch(source, step * DEPTH + 2 * pair + 1);
                }
                // SAFETY: the caller's promises.
                let values = unsafe { pair_of(source, step * DEPTH + 2 * pair, half) };
                let values = [_mm512_mul_ps(values[0], scale), _mm512_mul_ps(values[1], scale)];
                for (pairs, bits) in pairs.iter_mut().zip(split_pairs::<COUNT>(values)) {
                    pairs[pair] = _mm512_castsi512_ps(bits);
                }
            }
            for (part, pairs) in pairs.into_iter().enumerate() {
                let to = to.wrapping_add(step * amx::step_bytes(COUNT) + (part * 2 + half) * TILE);
                for (i, row) in transpose(pairs).into_iter().enumerate() {
                    // SAFETY: the caller has a tile there, aligned.
                    unsafe { _mm512_store_ps(to.add(i * 64).cast(), row) };
                }
            }
        }
    }
}

/// Packs columns as right operand: for each 32 summed elements, for each part, two tiles of 16 columns, whose rows hold
/// pairs of summed elements.
///
/// # Safety
/// As [`left_by_columns`].
pub(super) unsafe fn right<T: Wide>(parts: usize, source: Source<T>, to: *mut u8) {
    // SAFETY: the caller's promises.
    unsafe {
        match parts {
            1 => right_of::<T, 1>(source, to),
            2 => right_of::<T, 2>(source, to),
            _ => right_of::<T, PARTS>(source, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn right_of<T: Wide, const COUNT: usize>(source: Source<T>, to: *mut u8) {
    for pair in 0..source.depth.next_multiple_of(DEPTH) / 2 {
        let to = to.wrapping_add(pair / 16 * amx::step_bytes(COUNT) + pair % 16 * 64);
        fetch(source, 2 * pair);
        fetch(source, 2 * pair + 1);
        for half in 0..2 {
            // SAFETY: the caller's promises.
            unsafe {
                let values = pair_of(source, 2 * pair, half);
                for (part, bits) in split_pairs::<COUNT>(values).into_iter().enumerate() {
                    _mm512_store_si512(to.add((part * 2 + half) * TILE).cast(), bits);
                }
            }
        }
    }
}

/// As [`right`], of columns that lie one after another: the source has `count` lines of `depth` elements.
///
/// # Safety
/// As [`left_by_rows`].
pub(super) unsafe fn right_transposed(parts: usize, source: Source<f32>, to: *mut u8) {
    // SAFETY: the caller's promises.
    unsafe {
        match parts {
            1 => right_transposed_of::<1>(source, to),
            2 => right_transposed_of::<2>(source, to),
            _ => right_transposed_of::<PARTS>(source, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn right_transposed_of<const COUNT: usize>(source: Source<f32>, to: *mut u8) {
    let Source { from, stride, count, depth } = source;
    for step in 0..depth.div_ceil(DEPTH) {
        for half in 0..2 {
            let mut columns = [[_mm512_setzero_ps(); 16]; COUNT];
            for i in 0..16 {
                let column = half * 16 + i;
                let [low, high] = masks(if column < count { depth - step * DEPTH } else { 0 });
                let from = from.wrapping_add(column * stride + step * DEPTH);
                // SAFETY: the caller's promises; masked elements are not touched.
                let values = unsafe { [f32::load(from, low), f32::load(from.wrapping_add(16), high)] };
                for (columns, bits) in columns.iter_mut().zip(split::<COUNT>(values)) {
                    columns[i] = _mm512_castsi512_ps(bits);
                }
            }
            for (part, columns) in columns.into_iter().enumerate() {
                let to = to.wrapping_add(step * amx::step_bytes(COUNT) + (part * 2 + half) * TILE);
                for (i, pairs) in transpose(columns).into_iter().enumerate() {
                    // SAFETY: the caller has a tile there, aligned.
                    unsafe { _mm512_store_ps(to.add(i * 64).cast(), pairs) };
                }
            }
        }
    }
}

/// 16 columns of lines `line` and `line + 1`; what lies outside of the source is 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pair_of<T: Wide>(source: Source<T>, line: usize, half: usize) -> [__m512; 2] {
    let mask = masks(source.count)[half];
    let of = |line: usize| if line < source.depth { mask } else { 0 };
    let from = source.from.wrapping_add(line * source.stride + half * 16);
    // SAFETY: the caller's promises; masked elements are not touched.
    unsafe { [T::load(from, of(line)), T::load(from.wrapping_add(source.stride), of(line + 1))] }
}

/// 32 float32 as the sum of `COUNT` times 32 bfloat16, in order; 3 are exact. Of two the first is rounded to nearest too:
/// what the second then holds has no sign of its own, and the product of both seconds, which is left out, averages to 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn split<const COUNT: usize>(mut x: [__m512; 2]) -> [__m512i; COUNT] {
    let mut parts = [_mm512_setzero_si512(); COUNT];
    let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
    for (i, part) in parts.iter_mut().enumerate() {
        if i + 1 == COUNT {
            *part = rounded(x);
            continue;
        }
        let high = if COUNT == 2 {
            *part = rounded(x);
            [_mm512_castsi512_si256(*part), _mm512_extracti64x4_epi64::<1>(*part)]
                .map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))))
        } else {
            *part = upper_halves(x);
            x.map(|x| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper)))
        };
        x = [_mm512_sub_ps(x[0], high[0]), _mm512_sub_ps(x[1], high[1])];
    }
    parts
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn rounded(x: [__m512; 2]) -> __m512i {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(x[1], x[0])) }
}

/// The upper 16 bits of 32 lanes, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn upper_halves(x: [__m512; 2]) -> __m512i {
    #[rustfmt::skip]
    let odd = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33,
        31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1,
    );
    _mm512_permutex2var_epi16(_mm512_castps_si512(x[0]), odd, _mm512_castps_si512(x[1]))
}

/// [`split`] of two rows of 16, in pairs: the lower half of a word is the first row's. Rounded parts are widened again in
/// that order, a shift and a mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn split_pairs<const COUNT: usize>(mut x: [__m512; 2]) -> [__m512i; COUNT] {
    let mut parts = [_mm512_setzero_si512(); COUNT];
    let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
    for (i, part) in parts.iter_mut().enumerate() {
        if i + 1 == COUNT {
            *part = side_by_side(rounded(x));
            continue;
        }
        *part = if COUNT == 2 {
            side_by_side(rounded(x))
        } else {
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(x[0]));
            _mm512_or_si512(first, _mm512_and_si512(_mm512_castps_si512(x[1]), upper))
        };
        let high = [_mm512_slli_epi32::<16>(*part), _mm512_and_si512(*part, upper)].map(|x| _mm512_castsi512_ps(x));
        x = [_mm512_sub_ps(x[0], high[0]), _mm512_sub_ps(x[1], high[1])];
    }
    parts
}

/// Pairs of the first 16 halves and the last 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn side_by_side(halves: __m512i) -> __m512i {
    #[rustfmt::skip]
    let order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
        23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
    );
    _mm512_permutexvar_epi16(order, halves)
}

/// Asks for `height` lines of 32 elements that are going to be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn fetch_to_write(c: *mut f32, stride: usize, height: usize) {
    for row in 0..height {
        let to = c.wrapping_add(row * stride).cast_const().cast::<i8>();
        ask::<_MM_HINT_ET0>(to);
        ask::<_MM_HINT_ET0>(to.wrapping_add(64));
    }
}

/// Writes (or adds) `height` by `width` of 32 by 32 sums.
///
/// # Safety
/// `c` holds these rows, `stride` elements apart. The machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn write(sums: &amx::Block, c: *mut f32, stride: usize, height: usize, width: usize, add: bool) {
    let masks = masks(width);
    for (i, sums) in sums.0.chunks_exact(SIDE).enumerate().take(height) {
        for (half, mask) in masks.into_iter().enumerate() {
            // SAFETY: masked elements are not touched, the others are the caller's.
            unsafe {
                let to = c.wrapping_add(i * stride + half * 16);
                let values = _mm512_loadu_ps(sums.as_ptr().add(half * 16));
                let before = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(before, values));
            }
        }
    }
}
