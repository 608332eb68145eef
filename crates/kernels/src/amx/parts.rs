//! Cutting float32 in bfloat16 parts, and the layouts of tile operands.

use super::{step_bytes, DEPTH, PARTS, SIDE, TILE};
use std::arch::x86_64::*;

/// 32 by 32 sums.
#[repr(C, align(64))]
pub(crate) struct Block(pub [f32; SIDE * SIDE]);

/// Elements that widen to float32, 32 at a time.
pub(crate) trait Wide: Copy {
    /// # Safety
    /// 32 elements are there, and the machine has AVX-512.
    unsafe fn load(from: *const Self) -> [__m512; 2];
}

impl Wide for f32 {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))] }
    }
}

/// Float16 bits.
impl Wide for u16 {
    #[inline(always)]
    unsafe fn load(from: *const u16) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())), _mm512_cvtph_ps(_mm256_loadu_si256(from.add(16).cast()))]
        }
    }
}

/// Cuts `count` rows, `stride` elements apart, in parts, as left operand: for each step, for each part, two tiles; rows
/// past `count` are 0.
///
/// # Safety
/// The rows hold `len` elements, a multiple of 32, and `panel` `len / 32` steps, aligned to 64 bytes. The machine has
/// AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn split_panel<T: Wide>(
    from: *const T,
    stride: usize,
    count: usize,
    len: usize,
    parts: usize,
    panel: *mut u8,
) {
    for row in 0..SIDE {
        let to = panel.wrapping_add(row / 16 * TILE + row % 16 * 64);
        for step in 0..len / DEPTH {
            // SAFETY: the caller's rows and panel have this size.
            unsafe {
                let values =
                    if row < count { T::load(from.add(row * stride + step * DEPTH)) } else { [_mm512_setzero_ps(); 2] };
                let to = to.add(step * step_bytes(parts));
                if parts == 1 {
                    _mm512_store_si512(to.cast(), rounded(values));
                    continue;
                }
                for (part, bits) in split(values).into_iter().enumerate() {
                    _mm512_store_si512(to.add(part * 2 * TILE).cast(), bits);
                }
            }
        }
    }
}

/// Copies `count` rows of bfloat16, `stride` elements apart, as left operand of one part: for each step two tiles; rows
/// past `count` are 0.
///
/// # Safety
/// As [`split_panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn copy_panel(from: *const u16, stride: usize, count: usize, len: usize, panel: *mut u8) {
    // In the order in which the panel lies: up to twice as fast as along the rows.
    for step in 0..len / DEPTH {
        for row in 0..SIDE {
            // SAFETY: the caller's rows and panel have this size.
            unsafe {
                let bits = if row < count {
                    _mm512_loadu_si512(from.add(row * stride + step * DEPTH).cast())
                } else {
                    _mm512_setzero_si512()
                };
                _mm512_store_si512(panel.add(step * step_bytes(1) + row * 64).cast(), bits);
            }
        }
    }
}

/// Packs `len` rows of 32 columns, `stride` elements apart, as right operand that is summed over the rows: for each
/// 32 rows, for each part, two tiles of 16 columns. The last step is filled up with zeros.
///
/// # Safety
/// The rows hold 32 elements, and `to` a step for each 32 rows begun, aligned to 64 bytes. The machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn interleave_pairs(x: *const f32, stride: usize, len: usize, parts: usize, to: *mut u8) {
    // SAFETY: the caller's promises.
    unsafe {
        for pair in 0..len.next_multiple_of(DEPTH) / 2 {
            let row = |row: usize| if row < len { x.wrapping_add(row * stride) } else { ZEROS.as_ptr() };
            let (first, second) = (f32::load(row(2 * pair)), f32::load(row(2 * pair + 1)));
            let to = to.add(pair / 16 * step_bytes(parts) + pair % 16 * 64);
            for half in 0..2 {
                let values = [first[half], second[half]];
                let to = to.add(half * TILE);
                if parts == 1 {
                    _mm512_store_si512(to.cast(), side_by_side(rounded(values)));
                    continue;
                }
                for (part, bits) in split(values).into_iter().enumerate() {
                    _mm512_store_si512(to.add(part * 2 * TILE).cast(), side_by_side(bits));
                }
            }
        }
    }
}

/// Packs sums of 32 features (rows) and 32 rows (columns), `SIDE` apart, as a step of a right operand that is summed over
/// the features, in the parts that [`pack_step`] makes; of 16 rows or fewer only the first tile of each.
///
/// # Safety
/// `sums` are as many, `to` holds a step, both aligned to 64 bytes. The machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack_sums(sums: *const f32, rows: usize, parts: usize, to: *mut u8) {
    for half in 0..rows.div_ceil(16) {
        for pair in 0..SIDE / 2 {
            // SAFETY: within the sums, and within the step.
            unsafe {
                let from = sums.add(2 * pair * SIDE + half * 16);
                let values = [_mm512_load_ps(from), _mm512_load_ps(from.add(SIDE))];
                let to = to.add(half * TILE + pair * 64);
                match parts {
                    1 => _mm512_store_si512(to.cast(), side_by_side(rounded(values))),
                    2 => {
                        _mm512_store_si512(to.cast(), side_by_side(part::<0>(values)));
                        _mm512_store_si512(to.add(2 * TILE).cast(), side_by_side(rounded(below::<1>(values))));
                    }
                    _ => {
                        for (part, bits) in split(values).into_iter().enumerate() {
                            _mm512_store_si512(to.add(part * 2 * TILE).cast(), side_by_side(bits));
                        }
                    }
                }
            }
        }
    }
}

/// Pairs of the first 16 halves and the last 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn side_by_side(halves: __m512i) -> __m512i {
    let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
    let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(halves));
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

static ZEROS: [f32; DEPTH] = [0.0; DEPTH];

/// 32 float32 as the sum of three times 32 bfloat16: what the first 8 bits of the significand hold, the next, the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn split(x: [__m512; 2]) -> [__m512i; PARTS] {
    [part::<0>(x), part::<1>(x), part::<2>(x)]
}

/// 32 float32, each rounded to the nearest bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn rounded(x: [__m512; 2]) -> __m512i {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(x[1], x[0])) }
}

/// One part of [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn part<const PART: usize>(x: [__m512; 2]) -> __m512i {
    upper_halves(below::<PART>(x))
}

/// What is left when the first `PARTS` parts of [`split`] are taken away.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn below<const PARTS: usize>(mut x: [__m512; 2]) -> [__m512; 2] {
    let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
    for _ in 0..PARTS {
        for x in &mut x {
            let high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(*x), upper));
            *x = _mm512_sub_ps(*x, high);
        }
    }
    x
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

/// Packs 32 columns of up to 32 rows as right operand that is summed over the columns: for each part two tiles, in
/// which a row holds a pair of columns of 16 rows. Rows past `rows` are 0; of 16 rows or fewer only the first tile of
/// each part is written.
///
/// # Safety
/// The rows hold 32 elements, and `to` a step, aligned to 64 bytes. The machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn pack_step(x: *const f32, stride: usize, rows: usize, parts: usize, to: *mut u8) {
    for half in 0..rows.div_ceil(16) {
        let mut from = [ZEROS.as_ptr(); 16];
        for (row, from) in (half * 16..rows).zip(&mut from) {
            *from = x.wrapping_add(row * stride);
        }
        // SAFETY: these rows exist, and the tiles lie in the packed inputs.
        unsafe {
            if parts == 1 {
                pack_part::<ROUNDED>(&from, to.add(half * TILE));
                continue;
            }
            pack_part::<0>(&from, to.add(half * TILE));
            if parts == 2 {
                pack_part::<REST>(&from, to.add((2 + half) * TILE));
                continue;
            }
            pack_part::<1>(&from, to.add((2 + half) * TILE));
            pack_part::<2>(&from, to.add((4 + half) * TILE));
        }
    }
}

/// In place of a part's number: all of it, rounded.
const ROUNDED: usize = PARTS;
/// All but the first part, rounded.
const REST: usize = PARTS + 1;

/// One tile of one part. Reading the rows again for each part is cheaper than keeping all parts at hand.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_part<const PART: usize>(from: &[*const f32; 16], to: *mut u8) {
    let mut rows = [_mm512_setzero_ps(); 16];
    for (row, &from) in rows.iter_mut().zip(from) {
        // SAFETY: the caller has 32 elements there.
        let values = unsafe { f32::load(from) };
        *row = _mm512_castsi512_ps(match PART {
            ROUNDED => rounded(values),
            REST => rounded(below::<1>(values)),
            _ => part::<PART>(values),
        });
    }
    for (i, column) in transpose(rows).into_iter().enumerate() {
        // SAFETY: the caller has a tile there, aligned.
        unsafe { _mm512_store_ps(to.add(i * 64).cast(), column) };
    }
}

/// Transposes 16 by 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    // Pairs of rows, then fours, within parts of 128 bits; then the parts.
    let mut twos = [zero; 16];
    for i in 0..8 {
        twos[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        twos[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let low = |a: __m512, b: __m512| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    let high = |a: __m512, b: __m512| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    let mut fours = [zero; 16];
    for i in 0..4 {
        let at = 4 * i;
        fours[at] = low(twos[at], twos[at + 2]);
        fours[at + 1] = high(twos[at], twos[at + 2]);
        fours[at + 2] = low(twos[at + 1], twos[at + 3]);
        fours[at + 3] = high(twos[at + 1], twos[at + 3]);
    }
    // fours[4 i + c] holds, in its part p, column 4 p + c of rows 4 i to 4 i + 3.
    let mut out = [zero; 16];
    for c in 0..4 {
        let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
        let ab_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        let ab_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        let de_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(d, e);
        let de_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(d, e);
        out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, de_even);
        out[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, de_odd);
        out[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, de_even);
        out[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, de_odd);
    }
    out
}

/// Writes (or adds) 32 by 32 sums, transposed, to `height` rows of `count` elements.
///
/// # Safety
/// `sums` are as many, aligned to 64 bytes. `y` holds these rows, `stride` elements apart. The machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(crate) unsafe fn write_transposed(
    sums: *const f32,
    y: *mut f32,
    stride: usize,
    height: usize,
    count: usize,
    add: bool,
) {
    for tile in 0..4 {
        let (feature, row) = (tile / 2 * 16, tile % 2 * 16);
        if row >= height || feature >= count {
            continue;
        }
        let mask = ((1u32 << (count - feature).min(16)) - 1) as u16;
        let mut features = [_mm512_setzero_ps(); 16];
        for (i, features) in features.iter_mut().enumerate() {
            // SAFETY: within the sums, which are aligned.
            *features = unsafe { _mm512_load_ps(sums.add((feature + i) * SIDE + row)) };
        }
        for (i, values) in transpose(features).into_iter().enumerate().take(height - row) {
            // SAFETY: this row of the output has `count` features; the mask leaves out the others.
            unsafe {
                let to = y.add((row + i) * stride + feature);
                let before = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(before, values));
            }
        }
    }
}
