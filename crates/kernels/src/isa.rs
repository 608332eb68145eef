//! Which instruction set the kernels use: the best one found at run time, or the one that was forced.

use crate::error::KernelError;
use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust; works everywhere, in the vectors of the build's baseline (SSE2, NEON).
    Generic = 1,
    /// x86-64 AVX2 with FMA and F16C.
    Avx2 = 2,
    /// x86-64 AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
    /// AVX-512, and AMX's bfloat16 tiles for products of many rows.
    Amx = 4,
    /// WebAssembly SIMD128.
    Simd128 = 5,
    /// SIMD128 and relaxed SIMD's fused multiply-add. A build has one of the two.
    RelaxedSimd = 6,
    /// AVX2, and VNNI in 256 bits for quantised products.
    AvxVnni = 7,
    /// AArch64 with the dot product of bytes for quantised products.
    NeonDot = 8,
}

impl Isa {
    /// Worst first.
    const ALL: [Isa; 8] =
        [Isa::Generic, Isa::Avx2, Isa::AvxVnni, Isa::Avx512, Isa::Amx, Isa::Simd128, Isa::RelaxedSimd, Isa::NeonDot];

    /// The name by which `SWITCH_ISA` and [`force`] know it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Generic => "generic",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Simd128 => "simd128",
            Isa::RelaxedSimd => "relaxed-simd",
            Isa::AvxVnni => "avx-vnni",
            Isa::NeonDot => "neon-dotprod",
        }
    }

    /// Whether this machine (and this build) can run it.
    pub fn available(self) -> bool {
        match self {
            Isa::Generic => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Isa::Avx2.available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Isa::Avx512.available() && crate::amx::request(),
            Isa::Simd128 => {
                cfg!(all(target_arch = "wasm32", target_feature = "simd128", not(target_feature = "relaxed-simd")))
            }
            Isa::RelaxedSimd => cfg!(all(target_arch = "wasm32", target_feature = "relaxed-simd")),
            #[allow(unreachable_patterns)] // Every variant is handled above on x86-64.
            _ => false,
        }
    }
}

/// 0: not chosen yet.
static ACTIVE: AtomicU8 = AtomicU8::new(0);

/// The instruction sets of this machine, worst first.
pub fn available() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available()).collect()
}

fn from_number(number: u8) -> Option<Isa> {
    Isa::ALL.into_iter().find(|isa| *isa as u8 == number)
}

/// The instruction set in use. The first call chooses: `SWITCH_ISA` if it names one of this machine, else the best.
pub fn active() -> Isa {
    if let Some(isa) = from_number(ACTIVE.load(Ordering::Relaxed)) {
        return isa;
    }
    let forced = std::env::var("SWITCH_ISA").ok().and_then(|name| by_name(&name));
    let isa = forced.or_else(|| available().pop()).unwrap_or(Isa::Generic);
    ACTIVE.store(isa as u8, Ordering::Relaxed);
    isa
}

fn by_name(name: &str) -> Option<Isa> {
    Isa::ALL.into_iter().find(|isa| isa.name() == name && isa.available())
}

/// Makes every later call use the named instruction set.
///
/// Fails with [`KernelError::Isa`] when the name is unknown or the machine does not have it.
pub fn force(name: &str) -> Result<Isa, KernelError> {
    let isa = by_name(name).ok_or_else(|| KernelError::Isa {
        name: name.to_owned(),
        available: available().into_iter().map(Isa::name).collect::<Vec<_>>().join(", "),
    })?;
    ACTIVE.store(isa as u8, Ordering::Relaxed);
    Ok(isa)
}
