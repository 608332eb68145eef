//! AMX's bfloat16 tiles, used to float32's accuracy.
//!
//! The unit multiplies bfloat16 only, but a float32 is the exact sum of three of them (8 bits of significand each), and
//! the products are summed in float32. With one operand in bfloat16 three tile products are as exact as float32
//! arithmetic; with both in float32, cut in three each, six products leave out only what lies below float32's precision.
//! A tile product does the work of 512 AVX-512 multiply-adds in the time of 16 cycles (32 of them), so both are faster
//! than multiplying in float32.
//!
//! An infinite input makes what it takes part in NaN here; finite numbers and NaN behave as elsewhere.
//!
//! Measured on one core of a Sapphire Rapids server, 128 rows through 768 by 2048, GFLOP/s: 183 in AVX-512; with tiles 290
//! for float32 weights (six products), 570 for bfloat16 weights (three), 890 with both rounded to bfloat16 (one), of
//! 1840 that the unit did alone in registers. Of 2048 by 768, where rows of weights fall on the same cache lines: 445
//! and 680 in place, 480 and 810 copied. Tried without gain: copying weights of 768 columns (three products: -6 %), half
//! the rows per pass over the weights. Of 8 rows by 768 by 768, bfloat16 weights: 141 in AVX-512, 234 in tiles; float32
//! weights gain from 32 rows on (139 and 159). A product is bound by the caches: panels of one part are taken in runs short
//! enough for L1 (`gemm/tiles.rs`), large products are cut by rows so that a task's inputs stay in L2.

mod parts;

pub(crate) use parts::{
    copy_panel, interleave_pairs, pack_step, pack_sums, split_panel, transpose, write_transposed, Block,
};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _mm_prefetch, _MM_HINT_T1};

/// Summed elements per tile product.
pub(crate) const DEPTH: usize = 32;
/// Bytes of a tile, 16 rows of 64.
pub(crate) const TILE: usize = 1024;
/// Bfloat16 parts of a float32.
pub(crate) const PARTS: usize = 3;
/// Rows and columns of a register block: two tiles of 16.
pub(crate) const SIDE: usize = 32;
/// Bytes of two operand tiles in parts: what a register block takes per `DEPTH`.
pub(crate) const fn step_bytes(parts: usize) -> usize {
    parts * 2 * TILE
}

/// Asks the system for the tile registers; false when the machine or the system has none.
pub(crate) fn request() -> bool {
    let leaf7 = __cpuid_count(7, 0);
    let (bf16, tile) = (leaf7.edx >> 22 & 1, leaf7.edx >> 24 & 1);
    if __cpuid(0).eax < 7 || bf16 == 0 || tile == 0 || !is_x86_feature_detected!("avx512bf16") {
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

/// The thread's tiles, configured while this lives.
pub(crate) struct Tiles(());

impl Tiles {
    /// # Safety
    /// [`request`] has returned true.
    pub unsafe fn configure() -> Self {
        // SAFETY: the registers were granted; the configuration is valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever used the tiles has ended.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Tile 0 to 3: sums, of two by two tiles; 4, 5: left operand; 6, 7: right operand. All of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration =
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: row_bytes(64), rows: rows(16) };

const fn row_bytes(value: u16) -> [u16; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 8 {
        out[i] = value;
        i += 1;
    }
    out
}

const fn rows(value: u8) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 8 {
        out[i] = value;
        i += 1;
    }
    out
}

/// The left operand: two tiles of 16 rows each, `stride` bytes between rows.
pub(crate) struct Left {
    pub first: *const u8,
    pub second: *const u8,
    pub stride: usize,
    /// Bytes from one step of the summed dimension to the next.
    pub step: usize,
    /// Two tiles apart.
    pub parts: usize,
}

impl Left {
    /// A panel that [`split_panel`] made.
    pub fn split(panel: *const u8, parts: usize) -> Self {
        Self { first: panel, second: panel.wrapping_add(TILE), stride: 64, step: step_bytes(parts), parts }
    }
}

/// The right operand, packed.
pub(crate) struct Right {
    pub data: *const u8,
    pub parts: usize,
}

/// What a product asks from memory for the one after it: in every step, lines of some rows.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub first: *const u8,
    pub rows: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes of a row per step.
    pub step: usize,
}

impl Ahead {
    pub const NOTHING: Self = Self { first: std::ptr::null(), rows: 0, stride: 0, step: 0 };

    /// The lines of one step. Addresses need not be valid.
    #[inline(always)]
    fn fetch(&self, step: usize) {
        for row in 0..self.rows {
            let at = self.first.wrapping_add(row * self.stride + step * self.step);
            for line in (0..self.step).step_by(64) {
                // SAFETY: a prefetch has no effect on what the program sees.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
            }
        }
    }
}

/// Loads the right operand's part at an offset and adds its products with tiles 4 and 5 to the four (or two) sums.
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
    (half, $offset:literal) => {
        concat!(
            "tileloadd tmm6, [{x} + ",
            $offset,
            " * 1024 + {line}]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
        )
    };
}

/// Loads the left operand's part at an offset.
macro_rules! left {
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

/// One part by one part.
macro_rules! one {
    ($width:ident) => {
        concat!(left!("0"), products!($width, "0"))
    };
}

/// One part by two.
macro_rules! two {
    ($width:ident) => {
        concat!(left!("0"), products!($width, "0"), products!($width, "2"))
    };
}

/// One part by three.
macro_rules! three {
    ($width:ident) => {
        concat!(left!("0"), products!($width, "0"), products!($width, "2"), products!($width, "4"))
    };
}

/// Three parts by three: the first by all, the middle by the first two, the last by the first.
macro_rules! six {
    ($width:ident) => {
        concat!(
            three!($width),
            left!("2"),
            products!($width, "0"),
            products!($width, "2"),
            left!("4"),
            products!($width, "0")
        )
    };
}

macro_rules! step {
    ($a:expr, $b:expr, $stride:expr, $x:expr, $code:expr) => {
        asm!(
            $code,
            a = in(reg) $a,
            b = in(reg) $b,
            stride = in(reg) $stride,
            x = in(reg) $x,
            line = in(reg) 64usize,
            options(nostack, readonly)
        )
    };
}

/// Writes to `to`, rows `stride` bytes apart, the product of 32 rows and 32 columns summed over `steps` times 32 elements.
/// Without `wide` only the first 16 columns are computed, and the other 16 are unspecified.
///
/// # Safety
/// [`Tiles`] are configured; operands hold `steps` steps, and `to` 32 by 32 elements. The right operand has as many
/// parts as the left, or the left has one.
#[inline]
pub(crate) unsafe fn multiply(w: &Left, x: &Right, steps: usize, wide: bool, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promises.
    unsafe { multiply_and_fetch(w, x, steps, wide, false, Ahead::NOTHING, to, stride) }
}

/// [`multiply`], to which what stands in `to` is added where `add`, and which asks memory for what comes next.
///
/// # Safety
/// As [`multiply`].
#[inline]
#[allow(clippy::too_many_arguments)] // Operands, their size, and where the result goes.
pub(crate) unsafe fn multiply_and_fetch(
    w: &Left,
    x: &Right,
    steps: usize,
    wide: bool,
    add: bool,
    ahead: Ahead,
    to: *mut f32,
    stride: usize,
) {
    let (mut a, mut b, mut c, s) = (w.first, w.second, x.data, w.stride);
    let right_step = step_bytes(x.parts);
    let below = to.cast::<u8>().wrapping_add(16 * stride);
    // SAFETY: the caller's promises.
    unsafe {
        if add {
            asm!(
                "tileloadd tmm0, [{to} + {stride}]",
                "tileloadd tmm1, [{to} + {stride} + 64]",
                "tileloadd tmm2, [{below} + {stride}]",
                "tileloadd tmm3, [{below} + {stride} + 64]",
                to = in(reg) to,
                below = in(reg) below,
                stride = in(reg) stride,
                options(nostack, readonly)
            );
        } else {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        }
        for i in 0..steps {
            ahead.fetch(i);
            match (w.parts, x.parts, wide) {
                (_, 1, true) => step!(a, b, s, c, one!(both)),
                (_, 1, false) => step!(a, b, s, c, one!(half)),
                (1, 2, true) => step!(a, b, s, c, two!(both)),
                (1, 2, false) => step!(a, b, s, c, two!(half)),
                (1, _, true) => step!(a, b, s, c, three!(both)),
                (1, _, false) => step!(a, b, s, c, three!(half)),
                (_, _, true) => step!(a, b, s, c, six!(both)),
                (_, _, false) => step!(a, b, s, c, six!(half)),
            }
            (a, b, c) = (a.wrapping_add(w.step), b.wrapping_add(w.step), c.wrapping_add(right_step));
        }
        asm!(
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            "tilestored [{below} + {stride}], tmm2",
            "tilestored [{below} + {stride} + 64], tmm3",
            to = in(reg) to,
            below = in(reg) below,
            stride = in(reg) stride,
            options(nostack)
        );
    }
}
