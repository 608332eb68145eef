//! What an instruction set brings to quantised products, and the choice among them.

use super::generic::Generic;
use crate::isa::{self, Isa};

/// Sums of products of 8-bit integers in vectors of 32-bit lanes.
///
/// A step is as many columns as fit in the vectors that are multiplied at once. Inputs of int8 products lie in the order
/// of the columns; those of int4 products in the order in which nibbles come out of a vector: first the low halves of
/// the step's blocks, then the high ones.
///
/// # Safety
/// For all methods: the instruction set is available, and pointers are valid for what is read or written. No alignment
/// is needed.
pub(super) trait Unit: Copy {
    /// A step of int8 weights, ready to be multiplied.
    type Weights: Copy;
    /// Half a step of int4 weights.
    type Nibbles: Copy;
    type Sums: Copy;
    /// What is summed of the weights alone.
    type Column: Copy;
    type Floats: Copy;

    /// Columns per step of int8.
    const STEP: usize;
    /// Blocks of 32 columns per step of int4.
    const BLOCKS: usize;
    /// 32-bit lanes of `Sums`.
    const LANES: usize;
    /// Whether inputs are read as 16-bit integers, in int8 and int4 products.
    const WIDE: bool;
    const WIDE_BLOCKS: bool;
    /// What is added to int8 weights: sums are too large by this times the sum of the inputs.
    const OFFSET: i32;
    /// Rows of the register tile; its columns are 4.
    const ROWS: usize;

    unsafe fn zero() -> Self::Sums;
    unsafe fn no_column() -> Self::Column;
    unsafe fn weights(from: *const i8) -> Self::Weights;
    unsafe fn column(column: Self::Column, w: Self::Weights) -> Self::Column;
    /// Adds the products with a step of inputs.
    unsafe fn dot(sums: Self::Sums, w: Self::Weights, x: *const u8) -> Self::Sums;
    unsafe fn total(sums: Self::Sums, column: Self::Column) -> i32;

    /// The low and the high halves of a step.
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2];
    /// Adds the products with half a step of inputs.
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Nibbles, x: *const u8) -> Self::Sums;
    /// Nibbles of value 8, which stand for 0.
    unsafe fn middle() -> Self::Nibbles;
    unsafe fn load(from: *const i32) -> Self::Sums;
    unsafe fn store(to: *mut i32, sums: Self::Sums);
    unsafe fn no_floats() -> Self::Floats;
    /// The scales of a step's blocks, `per` blocks (1, 2 or 4) sharing one, each in the lanes of its block.
    unsafe fn scales(from: *const f32, per: usize) -> Self::Floats;
    /// `floats + sums · scales`
    unsafe fn scale(floats: Self::Floats, sums: Self::Sums, scales: Self::Floats) -> Self::Floats;
    unsafe fn total_floats(floats: Self::Floats) -> f32;

    /// Rounds `cols` numbers times `inverse` to `to`, in their order, and gives the sum of the integers.
    #[inline(always)]
    unsafe fn quantise(x: *const f32, cols: usize, inverse: f32, to: *mut i8) -> i32 {
        let mut sum = 0;
        for i in 0..cols {
            // SAFETY: the caller's promise.
            unsafe {
                let q = round(*x.add(i) * inverse);
                *to.add(i) = q;
                sum += i32::from(q);
            }
        }
        sum
    }

    /// Says that the line at `at`, which need not be valid, will be read.
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        let _ = at;
    }
}

/// Rounds to the nearest integer, ties to even, a number of magnitude 127 or a little more.
#[inline(always)]
pub(super) fn round(x: f32) -> i8 {
    // Float32 of this magnitude has no fraction: its low bits are the integer.
    (x + 12_582_912.0).to_bits() as i8
}

/// Code that runs with a unit.
pub(super) trait Op {
    type Out;
    /// # Safety
    /// `U` is available on this machine. Implementations are `inline(always)`.
    unsafe fn run<U: Unit>(self) -> Self::Out;
}

/// Runs `op` with the unit that belongs to the active instruction set.
pub(super) fn run<O: Op>(op: O) -> O::Out {
    match isa::active() {
        // SAFETY: as just asked.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx if super::vnni::has_avx512_vnni() => unsafe { super::vnni::run_avx512(op) },
        // SAFETY: an instruction set is active only if the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => unsafe { super::vnni::run_avx(op) },
        // SAFETY: as above; AVX-512 includes AVX2.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { super::avx2::run(op) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { super::neon::run(op) },
        // SAFETY: part of the build.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128 | Isa::RelaxedSimd => unsafe { op.run::<super::wasm32::Unit128>() },
        // SAFETY: plain Rust.
        _ => unsafe { op.run::<Generic>() },
    }
}
