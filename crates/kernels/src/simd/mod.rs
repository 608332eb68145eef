//! Vectors of float32 behind one trait, one file per instruction set, chosen at run time.
//!
//! A kernel is an [`Op`]: code written once over [`Simd`], which [`run`] compiles for each instruction set and calls
//! for the active one. Everything that an `Op` calls on its hot path is `inline(always)`: only then does it land in the
//! function that has the instruction set enabled.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod generic;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;

#[cfg_attr(target_arch = "aarch64", allow(unused_imports))] // Only the generic vectors there.
use crate::isa::{self, Isa};

/// Vectors of `N` float32 lanes.
///
/// # Safety
/// For all methods: the instruction set is available, and pointers are valid for the lanes read or written. No
/// alignment is needed.
pub(crate) trait Simd: Copy {
    type V: Copy;
    /// Lanes per vector.
    const N: usize;
    /// Whether `fma` rounds once.
    const FMA: bool;
    /// Vectors per turn of the matrix product's innermost loop.
    const UNROLL: usize;
    /// Rows of the tile that the matrix product keeps in registers; its columns are 4.
    const TILE_ROWS: usize;
    /// Whether products of many rows run over interleaved copies (`gemm/interleaved.rs`).
    const INTERLEAVED: bool = false;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// The first `count < N` lanes; the others are 0.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V;
    /// Asks for the cache line at an address, which need not be valid. Nothing where the instruction set has no such hint.
    #[inline(always)]
    unsafe fn prefetch<T>(_from: *const T) {}
    /// bfloat16 bits, widened.
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    unsafe fn load_bf16_first(from: *const u16, count: usize) -> Self::V;
    /// float16 bits, widened.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    unsafe fn load_f16_first(from: *const u16, count: usize) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Writes the first `count < N` lanes only.
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize);
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sums of the lanes of four vectors. The order of summation is the same for each of them.
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4];
}

/// Code that runs with an instruction set.
pub(crate) trait Op {
    type Out;
    /// # Safety
    /// `S` is available on this machine. Implementations are `inline(always)`.
    unsafe fn run<S: Simd>(self) -> Self::Out;
}

/// Runs `op` with the active instruction set.
pub(crate) fn run<O: Op>(op: O) -> O::Out {
    match isa::active() {
        // SAFETY: an instruction set is active only if the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => unsafe { avx512::run(op) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2::run(op) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128 | Isa::RelaxedSimd => unsafe { op.run::<wasm32::Simd128>() },
        // SAFETY: plain Rust.
        _ => unsafe { op.run::<generic::Generic>() },
    }
}

/// Storage types of weights, read as vectors.
pub(crate) trait Element: Copy {
    type Bits: Copy;
    /// Whether reading takes more than a load.
    const WIDENS: bool;
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<S: Simd>(from: *const Self::Bits) -> S::V;
    /// # Safety
    /// As [`Simd::load_first`].
    unsafe fn load_first<S: Simd>(from: *const Self::Bits, count: usize) -> S::V;
}

macro_rules! element {
    ($name:ident, $bits:ty, $widens:literal, $load:ident, $load_first:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Element for $name {
            type Bits = $bits;
            const WIDENS: bool = $widens;
            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const $bits) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { S::$load(from) }
            }
            #[inline(always)]
            unsafe fn load_first<S: Simd>(from: *const $bits, count: usize) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { S::$load_first(from, count) }
            }
        }
    };
}

element!(F32, f32, false, load, load_first);
element!(F16, u16, true, load_f16, load_f16_first);
element!(Bf16, u16, true, load_bf16, load_bf16_first);
