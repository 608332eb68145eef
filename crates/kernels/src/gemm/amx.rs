//! `x · wᵀ` with AMX's bfloat16 tiles, to float32's accuracy.
//!
//! The unit multiplies bfloat16 only, but a float32 is the exact sum of three of them (8 bits of significand each), and
//! the products are summed in float32. With bfloat16 weights three tile products give `x · wᵀ` as exactly as float32
//! arithmetic would; with float32 weights, cut in three as well, six products leave out only what lies below float32's
//! precision. A tile product does the work of 32 AVX-512 multiply-adds in the time of 16, so that both are faster than
//! multiplying in float32.
//!
//! An infinite input makes its whole output row NaN here; finite inputs and NaN behave as elsewhere.
//!
//! Weights are the left operand, read in place when they are bfloat16; inputs are cut and packed once per product
//! ([`Inputs`]), pairs of the summed dimension interleaved as the right operand wants them.

use super::{Block, RUN};
use crate::error::KernelError;
use crate::matrix::Values;
use crate::parallel::{self, Disjoint};
use crate::scratch::{self, Scratch};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Summed elements per tile product.
const DEPTH: usize = 32;
/// Bytes of a tile, 16 rows of 64.
const TILE: usize = 1024;
/// Bfloat16 parts of a float32.
const PARTS: usize = 3;
/// Rows of inputs, and features, per register block: two tiles of 16.
const SIDE: usize = 32;
/// Bytes of the packed inputs of a register block, per `DEPTH`.
const STEP: usize = PARTS * 2 * TILE;
/// Rows of inputs per pass over a panel of weights; their packed form stays in the L2 cache.
const BLOCK_ROWS: usize = 256;

/// Rows from which packing pays.
fn threshold(values: Values<'_>) -> usize {
    match values {
        Values::Bf16(_) => 16,
        _ => 64,
    }
}

/// Whether a product of `n` rows with weights of this shape goes through the tiles.
pub(crate) fn suits(n: usize, values: Values<'_>, rows: usize, cols: usize) -> bool {
    n >= threshold(values) && rows >= SIDE && cols > 0 && cols.is_multiple_of(DEPTH)
}

/// Asks the system for the tile registers; false when the machine or the system has none.
pub(crate) fn request() -> bool {
    let leaf7 = __cpuid_count(7, 0);
    let (bf16, tile) = (leaf7.edx >> 22 & 1, leaf7.edx >> 24 & 1);
    if __cpuid(0).eax < 7 || bf16 == 0 || tile == 0 {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let mut result = ARCH_PRCTL;
        // SAFETY: this system call only grants the process the use of the registers.
        unsafe {
            asm!("syscall", inlateout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
                 out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Inputs cut in parts and packed: for each block of 32 rows, for each 32 columns, for each part, two tiles.
pub(crate) struct Inputs {
    data: Scratch,
    cols: usize,
    /// First block of each segment.
    starts: Vec<usize>,
}

impl Inputs {
    /// Packs segments of the rows of `x`, each of `cols` elements. Each segment starts with a block of its own.
    pub fn pack(x: &[f32], cols: usize, segments: &[Range<usize>]) -> Result<Self, KernelError> {
        let what = "packed inputs";
        let mut starts = Vec::with_capacity(segments.len());
        let mut blocks = 0;
        for rows in segments {
            starts.push(blocks);
            blocks += rows.len().div_ceil(SIDE);
        }
        let steps = cols / DEPTH;
        let mut data =
            scratch::take(what, blocks.checked_mul(steps * STEP / 4).ok_or(KernelError::TooLarge { what })?)?;
        let out = Disjoint::new(&mut data);
        parallel::for_each_range(blocks, 1, |range| {
            for block in range {
                let segment = starts.partition_point(|&start| start <= block) - 1;
                let first = segments[segment].start + (block - starts[segment]) * SIDE;
                let rows = (segments[segment].end - first).min(SIDE);
                let to = out.as_ptr().wrapping_add(block * steps * STEP / 4).cast::<u8>();
                for step in 0..steps {
                    // SAFETY: the source rows lie in `x`, the tiles in `data`; blocks do not overlap. The machine has
                    // AVX-512, without which AMX is not active.
                    unsafe {
                        let x = x[first * cols..(first + rows) * cols].as_ptr().add(step * DEPTH);
                        pack_step(x, cols, rows, to.add(step * STEP));
                    }
                }
            }
        });
        Ok(Self { data, cols, starts })
    }

    /// The packed block of a segment's rows from `row`, a multiple of 32, at column `col`, a multiple of 32.
    fn block(&self, segment: usize, row: usize, col: usize) -> *const u8 {
        let (block, steps) = (self.starts[segment] + row / SIDE, self.cols / DEPTH);
        self.data.as_ptr().cast::<u8>().wrapping_add((block * steps + col / DEPTH) * STEP)
    }
}

/// Tile 0 to 3: sums, of two by two tiles; 4, 5: weights; 6, 7: inputs. All of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration =
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: tiles(64), rows: tiles8(16) };

const fn tiles(value: u16) -> [u16; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 8 {
        out[i] = value;
        i += 1;
    }
    out
}

const fn tiles8(value: u8) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 8 {
        out[i] = value;
        i += 1;
    }
    out
}

/// Computes the columns `features` of `block`, whose inputs are a segment of `inputs`; as `gemm::product`.
///
/// # Safety
/// As `gemm::product`; and [`request`] has returned true.
pub(crate) unsafe fn product(block: Block<'_>, inputs: &Inputs, segment: usize, features: Range<usize>) {
    // SAFETY: the tile registers were granted; the configuration is valid.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack)) };
    let panel_bytes = 2 * TILE * PARTS * (RUN / DEPTH);
    if let Ok(mut panel) = scratch::take("a panel of weights", panel_bytes / 4) {
        // SAFETY: the caller's promises.
        unsafe { product_configured(block, inputs, segment, features, panel.as_mut_ptr().cast()) };
    } else {
        // SAFETY: the caller's promises.
        unsafe { super::product_in_vectors(block, features) };
    }
    // SAFETY: nothing uses the tiles any more.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

#[inline]
unsafe fn product_configured(
    block: Block<'_>,
    inputs: &Inputs,
    segment: usize,
    features: Range<usize>,
    panel: *mut u8,
) {
    let cols = block.w.cols;
    let mut sums = Sums([0.0; 4 * TILE / 4]);
    let mut row = 0;
    while row < block.n {
        let rows = (block.n - row).min(BLOCK_ROWS);
        let mut start = 0;
        while start < cols {
            let len = (cols - start).min(RUN);
            let mut feature = features.start;
            while feature < features.end {
                let count = (features.end - feature).min(SIDE);
                // SAFETY: offsets lie within the operands, as the caller promises.
                unsafe {
                    let weights = panel_of(block.w.values, feature * cols + start, cols, count, len, panel);
                    let mut r = 0;
                    while r < rows {
                        let height = (rows - r).min(SIDE);
                        let x = inputs.block(segment, row + r, start);
                        multiply(&weights, x, len / DEPTH, height > 16, &mut sums);
                        let y = block.y.add((row + r) * block.y_stride + feature);
                        write(&sums, y, block.y_stride, height, count, start > 0);
                        r += height;
                    }
                }
                feature += count;
            }
            start += len;
        }
        row += rows;
    }
}

/// Weights as the tile unit reads them: two tiles of 16 features, `stride` bytes between features.
struct Panel {
    first: *const u8,
    second: *const u8,
    stride: usize,
    /// Bytes from one step of the summed dimension to the next.
    step: usize,
    parts: usize,
}

/// The panel of `count` features from element `start`: the weights themselves, or a copy in `panel`.
unsafe fn panel_of(values: Values<'_>, start: usize, cols: usize, count: usize, len: usize, panel: *mut u8) -> Panel {
    // SAFETY: the caller's operands hold these rows; `panel` holds `RUN` columns of `SIDE` rows in three parts.
    unsafe {
        match values {
            Values::Bf16(w) if count == SIDE => {
                let first = w.as_ptr().add(start).cast::<u8>();
                Panel { first, second: first.add(16 * cols * 2), stride: cols * 2, step: DEPTH * 2, parts: 1 }
            }
            Values::Bf16(w) => {
                for row in 0..SIDE {
                    let to = panel.add(row * RUN * 2).cast::<u16>();
                    if row < count {
                        std::ptr::copy_nonoverlapping(w.as_ptr().add(start + row * cols), to, len);
                    } else {
                        std::ptr::write_bytes(to, 0, len);
                    }
                }
                Panel { first: panel, second: panel.add(16 * RUN * 2), stride: RUN * 2, step: DEPTH * 2, parts: 1 }
            }
            Values::F32(w) => {
                split_panel(w.as_ptr().add(start), |from| load_f32(from), cols, count, len, panel);
                Panel { first: panel, second: panel.add(TILE), stride: 64, step: STEP, parts: PARTS }
            }
            Values::F16(w) => {
                split_panel(w.as_ptr().add(start), |from| load_f16(from), cols, count, len, panel);
                Panel { first: panel, second: panel.add(TILE), stride: 64, step: STEP, parts: PARTS }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load_f32(from: *const f32) -> [__m512; 2] {
    // SAFETY: the caller has 32 elements there.
    unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))] }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load_f16(from: *const u16) -> [__m512; 2] {
    // SAFETY: the caller has 32 elements there.
    unsafe {
        [_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())), _mm512_cvtph_ps(_mm256_loadu_si256(from.add(16).cast()))]
    }
}

/// Cuts `count` rows of weights in parts: for each step, for each part, two tiles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn split_panel<T>(
    from: *const T,
    load: impl Fn(*const T) -> [__m512; 2],
    cols: usize,
    count: usize,
    len: usize,
    panel: *mut u8,
) {
    for row in 0..SIDE {
        let to = panel.wrapping_add(row / 16 * TILE + row % 16 * 64);
        for step in 0..len / DEPTH {
            // SAFETY: the caller's rows and panel have this size.
            unsafe {
                let values =
                    if row < count { load(from.add(row * cols + step * DEPTH)) } else { [_mm512_setzero_ps(); 2] };
                for (part, bits) in split(values).into_iter().enumerate() {
                    _mm512_store_si512(to.add(step * STEP + part * 2 * TILE).cast(), bits);
                }
            }
        }
    }
}

/// 32 float32 as the sum of three times 32 bfloat16: what the first 8 bits of the significand hold, the next, the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn split(x: [__m512; 2]) -> [__m512i; PARTS] {
    [part::<0>(x), part::<1>(x), part::<2>(x)]
}

/// One part of [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn part<const PART: usize>(mut x: [__m512; 2]) -> __m512i {
    let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
    for _ in 0..PART {
        for x in &mut x {
            let high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(*x), upper));
            *x = _mm512_sub_ps(*x, high);
        }
    }
    upper_halves(x)
}

/// The upper 16 bits of 32 lanes, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn upper_halves(x: [__m512; 2]) -> __m512i {
    #[rustfmt::skip]
    let odd = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33,
        31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1,
    );
    _mm512_permutex2var_epi16(_mm512_castps_si512(x[0]), odd, _mm512_castps_si512(x[1]))
}

/// Packs 32 columns of up to 32 rows: for each part two tiles, in which a row holds a pair of columns of 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_step(x: *const f32, stride: usize, rows: usize, to: *mut u8) {
    static ZEROS: [f32; DEPTH] = [0.0; DEPTH];
    for half in 0..2 {
        let mut from = [ZEROS.as_ptr(); 16];
        for (row, from) in (half * 16..rows).zip(&mut from) {
            *from = x.wrapping_add(row * stride);
        }
        // SAFETY: these rows exist, and the tiles lie in the packed inputs.
        unsafe {
            pack_part::<0>(&from, to.add(half * TILE));
            pack_part::<1>(&from, to.add((2 + half) * TILE));
            pack_part::<2>(&from, to.add((4 + half) * TILE));
        }
    }
}

/// One tile of one part. Reading the rows again for each part is cheaper than keeping all parts at hand.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_part<const PART: usize>(from: &[*const f32; 16], to: *mut u8) {
    let mut rows = [_mm512_setzero_ps(); 16];
    for (row, &from) in rows.iter_mut().zip(from) {
        // SAFETY: the caller has 32 elements there.
        *row = _mm512_castsi512_ps(part::<PART>(unsafe { load_f32(from) }));
    }
    for (i, column) in transpose(rows).into_iter().enumerate() {
        // SAFETY: the caller has a tile there, aligned.
        unsafe { _mm512_store_ps(to.add(i * 64).cast(), column) };
    }
}

/// Transposes 16 by 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
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

/// Four tiles of sums: features 0 to 15 of rows 0 to 15, of rows 16 to 31, then features 16 to 31 likewise.
#[repr(C, align(64))]
struct Sums([f32; 4 * TILE / 4]);

/// Loads the inputs' part at an offset and adds its products with tiles 4 and 5 to the four (or two) sums.
macro_rules! products {
    (both, $offset:literal) => {
        concat!(
            "tileloadd tmm6, [{x} + ",
            $offset,
            " * 1024 + {line}]\n",
            "tileloadd tmm7, [{x} + ",
            $offset,
            " * 1024 + 1024 + {line}]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
        )
    };
    (one, $offset:literal) => {
        concat!(
            "tileloadd tmm6, [{x} + ",
            $offset,
            " * 1024 + {line}]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
        )
    };
}

/// Loads the weights' part at an offset.
macro_rules! weights {
    ($offset:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + ",
            $offset,
            " * 1024 + {stride}]\n",
            "tileloadd tmm5, [{b} + ",
            $offset,
            " * 1024 + {stride}]\n",
        )
    };
}

macro_rules! step {
    ($a:expr, $b:expr, $stride:expr, $x:expr, $($code:expr),*) => {
        asm!(
            $($code),*,
            a = in(reg) $a,
            b = in(reg) $b,
            stride = in(reg) $stride,
            x = in(reg) $x,
            line = in(reg) 64usize,
            options(nostack, readonly)
        )
    };
}

/// Sums `steps` tile products; `both`: of 32 rows rather than 16.
#[inline]
unsafe fn multiply(w: &Panel, x: *const u8, steps: usize, both: bool, sums: &mut Sums) {
    let (mut a, mut b, mut x) = (w.first, w.second, x);
    // SAFETY: the tiles are configured, and all addresses lie in the panel and the packed inputs.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        for _ in 0..steps {
            match (w.parts == 1, both) {
                (true, true) => step!(
                    a,
                    b,
                    w.stride,
                    x,
                    weights!("0"),
                    products!(both, "0"),
                    products!(both, "2"),
                    products!(both, "4")
                ),
                (true, false) => step!(
                    a,
                    b,
                    w.stride,
                    x,
                    weights!("0"),
                    products!(one, "0"),
                    products!(one, "2"),
                    products!(one, "4")
                ),
                // First times all parts, middle times the first two, last times the first.
                (false, true) => step!(
                    a,
                    b,
                    w.stride,
                    x,
                    weights!("0"),
                    products!(both, "0"),
                    products!(both, "2"),
                    products!(both, "4"),
                    weights!("2"),
                    products!(both, "0"),
                    products!(both, "2"),
                    weights!("4"),
                    products!(both, "0")
                ),
                (false, false) => step!(
                    a,
                    b,
                    w.stride,
                    x,
                    weights!("0"),
                    products!(one, "0"),
                    products!(one, "2"),
                    products!(one, "4"),
                    weights!("2"),
                    products!(one, "0"),
                    products!(one, "2"),
                    weights!("4"),
                    products!(one, "0")
                ),
            }
            (a, b, x) = (a.add(w.step), b.add(w.step), x.add(STEP));
        }
        asm!(
            "tilestored [{to} + {line}], tmm0",
            "tilestored [{to} + {line} + 1024], tmm1",
            "tilestored [{to} + {line} + 2048], tmm2",
            "tilestored [{to} + {line} + 3072], tmm3",
            to = in(reg) sums.0.as_mut_ptr(),
            line = in(reg) 64usize,
            options(nostack)
        );
    }
}

/// Writes (or adds) the sums, feature by row, to `height` rows of `count` features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn write(sums: &Sums, y: *mut f32, stride: usize, height: usize, count: usize, add: bool) {
    for tile in 0..4 {
        let (feature, row) = (tile / 2 * 16, tile % 2 * 16);
        if row >= height || feature >= count {
            continue;
        }
        let mask = ((1u32 << (count - feature).min(16)) - 1) as u16;
        let mut features = [_mm512_setzero_ps(); 16];
        for (i, features) in features.iter_mut().enumerate() {
            // SAFETY: within the sums, which are aligned.
            *features = unsafe { _mm512_load_ps(sums.0.as_ptr().add(tile * TILE / 4 + i * 16)) };
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
