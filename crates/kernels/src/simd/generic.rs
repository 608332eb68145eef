//! Plain Rust on four lanes, which compilers turn into whatever vectors the build's baseline has (SSE2, NEON). Always
//! works.

use super::Simd;

#[derive(Clone, Copy)]
pub(super) struct Generic;

/// Whether the build's baseline fuses multiply and add; if not, `mul_add` would be a library call.
const FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Exact, subnormals, infinities and NaN included.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let sign = u32::from(bits & 0x8000) << 16;
    // Shifted into a float32's place the exponent is 112 too small; the product restores it, subnormals too.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    f32::from_bits(sign | if magnitude >= 0x0f80_0000 { special } else { finite })
}

#[inline(always)]
pub(super) fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

macro_rules! lanes {
    (|$i:ident| $value:expr) => {{
        let mut out = [0f32; 4];
        let mut $i = 0;
        while $i < 4 {
            out[$i] = $value;
            $i += 1;
        }
        out
    }};
}

// SAFETY (all): the caller's pointers are valid for the lanes that are read or written.
impl Simd for Generic {
    type V = [f32; 4];
    const N: usize = 4;
    const FMA: bool = FMA;
    const UNROLL: usize = 1;
    const TILE_ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V {
        lanes!(|i| if i < count { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        lanes!(|i| widen_bf16(unsafe { *from.add(i) }))
    }
    #[inline(always)]
    unsafe fn load_bf16_first(from: *const u16, count: usize) -> Self::V {
        lanes!(|i| if i < count { widen_bf16(unsafe { *from.add(i) }) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        lanes!(|i| widen_f16(unsafe { *from.add(i) }))
    }
    #[inline(always)]
    unsafe fn load_f16_first(from: *const u16, count: usize) -> Self::V {
        lanes!(|i| if i < count { widen_f16(unsafe { *from.add(i) }) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize) {
        let mut i = 0;
        while i < count && i < 4 {
            unsafe { *to.add(i) = v[i] };
            i += 1;
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if FMA {
            lanes!(|i| a[i].mul_add(b[i], c[i]))
        } else {
            lanes!(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        lanes!(|i| (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]))
    }
}
