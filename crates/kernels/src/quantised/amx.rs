//! Int8 products of many rows in AMX tiles (`tdpbssd`, signed by signed).
//!
//! Weights are the left operand, read where they lie; quantised inputs are packed once per product: for each block of 32
//! rows, for each 64 columns, two tiles in which groups of four columns alternate between 16 rows. Sums come out feature
//! by row and are transposed on their way to the output.

use super::inputs::Rows;
use crate::amx::{Tiles, TILE};
use crate::gemm::Block;
use crate::isa::{self, Isa};
use crate::matrix::{Matrix, Values};
use crate::scratch;
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Columns per tile product.
const DEPTH: usize = 64;
/// Rows and features of a register block: two tiles of 16.
const SIDE: usize = 32;
/// Rows from which packing pays: fewer wait for memory in vectors too.
const FROM: usize = 16;
/// Rows from which weights are worth copying where their rows fall on the same cache lines.
const COPY_FROM: usize = 64;

/// Whether a product of `n` rows with `w` goes through the tiles.
pub(super) fn suits(n: usize, w: &Matrix<'_>) -> bool {
    let shape = n >= FROM && w.rows >= SIDE && w.cols > 0 && w.cols.is_multiple_of(DEPTH);
    shape && isa::active() == Isa::Amx && has_int8()
}

fn has_int8() -> bool {
    // Asked once: virtual machines answer slowly. AMX is active, so that leaf 7 exists.
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| __cpuid_count(7, 0).edx >> 25 & 1 == 1)
}

pub(super) fn packed_bytes(n: usize, cols: usize) -> usize {
    n.next_multiple_of(SIDE).saturating_mul(cols)
}

/// Packs quantised rows, `stride` bytes apart, of which `rows` starts at a whole block.
///
/// # Safety
/// `from` holds `n` rows, `to` their blocks.
pub(super) unsafe fn pack(from: *const u8, stride: usize, n: usize, cols: usize, rows: Range<usize>, to: *mut u8) {
    for first in rows.step_by(SIDE) {
        let block = to.wrapping_add(first * cols);
        for step in 0..cols / DEPTH {
            for half in 0..2 {
                let row = first + half * 16;
                let tile = block.wrapping_add((step * 2 + half) * TILE);
                let count = n.saturating_sub(row).min(16);
                // SAFETY: the rows lie in `from`, the tile in `to`; AMX machines have AVX-512.
                unsafe { pack_tile(from.wrapping_add(row * stride + step * DEPTH), stride, count, tile) };
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_tile(from: *const u8, stride: usize, count: usize, to: *mut u8) {
    let mut lines = [_mm512_setzero_si512(); 16];
    for (row, line) in lines.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's promise.
        *line = unsafe { _mm512_loadu_si512(from.add(row * stride).cast()) };
    }
    for (group, line) in transposed(lines).into_iter().enumerate() {
        // SAFETY: a tile has 16 lines of 64 bytes.
        unsafe { _mm512_storeu_si512(to.add(group * 64).cast(), line) };
    }
}

/// Transposes 16 by 16 lanes of 32 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn transposed(lines: [__m512i; 16]) -> [__m512i; 16] {
    // By pairs, by fours within 128 bits, and then the 128-bit parts.
    let mut pairs = lines;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(lines[2 * i], lines[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(lines[2 * i], lines[2 * i + 1]);
    }
    let mut fours = pairs;
    for i in 0..4 {
        fours[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    let mut out = fours;
    for i in 0..4 {
        let (a, b, c, d) = (fours[i], fours[4 + i], fours[8 + i], fours[12 + i]);
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[i] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
        out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
        out[4 + i] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}

/// Computes the columns `features` of `block` from its packed rows.
///
/// # Safety
/// As `gemm::product`; the rows are packed.
pub(super) unsafe fn product(block: &Block<'_>, rows: &Rows, features: Range<usize>) {
    let (Values::I8 { values, scales }, Some(tiles)) = (block.w.values, rows.tiles()) else { return };
    let cols = block.w.cols;
    let mut feature = features.start;
    // The last features of a matrix may be fewer than a block's: those before them are computed again, to the same bits,
    // where they belong to this task, and left to vectors otherwise.
    let whole = features.len() / SIDE * SIDE;
    let copies = block.n >= COPY_FROM && cols.is_multiple_of(1024);
    let mut copy = copies.then(|| scratch::take("a panel of weights", SIDE * cols / 4).ok()).flatten();
    {
        // SAFETY: the tile registers were granted, since AMX is active.
        let _configured = unsafe { Tiles::configure() };
        let mut sums = Sums([0; SIDE * SIDE]);
        while feature < features.start + whole {
            let mut left = Left { data: values[feature * cols..].as_ptr().cast(), stride: cols, step: DEPTH };
            if let Some(copy) = &mut copy {
                // SAFETY: 32 rows of weights; the copy holds as many.
                unsafe { left = copy_panel(&left, cols, copy.as_mut_ptr().cast()) };
            }
            let mut row = 0;
            while row < block.n {
                let height = (block.n - row).min(SIDE);
                if row == 0 {
                    prefetch(values[feature * cols..].as_ptr().wrapping_add(SIDE * cols), SIDE * cols);
                }
                // SAFETY: the operands are whole, the output has these rows and features.
                unsafe {
                    multiply(&left, tiles.add(row * cols), cols / DEPTH, height > 16, &mut sums);
                    write(&sums, block, rows, scales.as_ptr().add(feature), row..row + height, feature);
                }
                row += height;
            }
            feature += SIDE;
        }
    }
    if feature < features.end {
        // SAFETY: the caller's promises.
        unsafe { super::tiles::product(block, rows, feature..features.end) };
    }
}

/// Asks for the weights of the next panel, while this one is multiplied.
fn prefetch(from: *const i8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: a prefetch may be given any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line)) };
    }
}

/// 32 features by 32 rows.
#[repr(align(64))]
struct Sums([i32; SIDE * SIDE]);

/// 32 rows of weights, `stride` bytes apart; a step of the summed dimension is `step` bytes from the one before.
struct Left {
    data: *const u8,
    stride: usize,
    step: usize,
}

/// Copies a panel of weights to where its tiles follow each other.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn copy_panel(from: &Left, cols: usize, to: *mut u8) -> Left {
    for row in 0..SIDE {
        for step in 0..cols / DEPTH {
            // SAFETY: the caller's promise.
            unsafe {
                let line = _mm512_loadu_si512(from.data.add(row * from.stride + step * DEPTH).cast());
                _mm512_store_si512(to.add((step * SIDE + row) * DEPTH).cast(), line);
            }
        }
    }
    Left { data: to, stride: DEPTH, step: SIDE * DEPTH }
}

macro_rules! step {
    ($first:expr, $stride:expr, $x:expr, $code:expr) => {
        asm!(
            $code,
            a = in(reg) $first,
            b = in(reg) $first.wrapping_add(16 * $stride),
            stride = in(reg) $stride,
            x = in(reg) $x,
            line = in(reg) 64usize,
            options(nostack, readonly)
        )
    };
}

/// `sums = w · xᵀ` over `steps` steps. Without `wide` only the first 16 columns are computed.
///
/// # Safety
/// [`Tiles`] are configured; the operands hold `steps` steps.
#[inline]
unsafe fn multiply(w: &Left, x: *const u8, steps: usize, wide: bool, sums: &mut Sums) {
    let (mut a, mut x) = (w.data, x);
    // SAFETY: the caller's promises.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        for _ in 0..steps {
            if wide {
                step!(
                    a,
                    w.stride,
                    x,
                    concat!(
                        "tileloadd tmm4, [{a} + {stride}]\n",
                        "tileloadd tmm6, [{x} + {line}]\n",
                        "tileloadd tmm7, [{x} + 1024 + {line}]\n",
                        "tdpbssd tmm0, tmm4, tmm6\n",
                        "tileloadd tmm5, [{b} + {stride}]\n",
                        "tdpbssd tmm1, tmm4, tmm7\n",
                        "tdpbssd tmm2, tmm5, tmm6\n",
                        "tdpbssd tmm3, tmm5, tmm7\n",
                    )
                );
            } else {
                step!(
                    a,
                    w.stride,
                    x,
                    concat!(
                        "tileloadd tmm4, [{a} + {stride}]\n",
                        "tileloadd tmm6, [{x} + {line}]\n",
                        "tdpbssd tmm0, tmm4, tmm6\n",
                        "tileloadd tmm5, [{b} + {stride}]\n",
                        "tdpbssd tmm2, tmm5, tmm6\n",
                    )
                );
            }
            (a, x) = (a.wrapping_add(w.step), x.wrapping_add(2 * TILE));
        }
        let to = sums.0.as_mut_ptr().cast::<u8>();
        asm!(
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            "tilestored [{below} + {stride}], tmm2",
            "tilestored [{below} + {stride} + 64], tmm3",
            to = in(reg) to,
            below = in(reg) to.wrapping_add(16 * SIDE * 4),
            stride = in(reg) SIDE * 4,
            options(nostack)
        );
    }
}

/// Writes sums, scaled, to the rows `range` of the output.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn write(sums: &Sums, block: &Block<'_>, rows: &Rows, scales: *const f32, range: Range<usize>, feature: usize) {
    for half in 0..2 {
        // SAFETY: 32 features have scales.
        let scale = unsafe { _mm512_loadu_ps(scales.add(half * 16)) };
        for first in range.clone().step_by(16) {
            let mut lines = [_mm512_setzero_si512(); 16];
            for (i, line) in lines.iter_mut().enumerate() {
                let at = (half * 16 + i) * SIDE + (first - range.start);
                // SAFETY: 16 sums from a multiple of 16 lie in a line.
                *line = unsafe { _mm512_load_si512(sums.0.as_ptr().add(at).cast()) };
            }
            for (row, line) in (first..range.end).zip(transposed(lines)) {
                // SAFETY: the rows and features are the output's.
                unsafe {
                    let each = _mm512_mul_ps(_mm512_set1_ps(rows.meta(row).scale), scale);
                    let y = block.y.add(row * block.y_stride + feature + half * 16);
                    _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_cvtepi32_ps(line), each));
                }
            }
        }
    }
}
