//! What the machine can do at best: the limits that kernels are measured against.

use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use switch_kernels::parallel;

/// Gigabytes per second at which all threads together read memory that no cache holds.
pub fn print_limits() {
    println!("memory read   {:8.1} GB/s", read_bandwidth());
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: detected.
            println!("f32 avx512    {:8.1} GFLOP/s", multiply_add(|n| unsafe { x86::avx512(n) }, 16 * 16));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: detected.
            println!("f32 avx2      {:8.1} GFLOP/s", multiply_add(|n| unsafe { x86::avx2(n) }, 12 * 8));
        }
    }
}

fn read_bandwidth() -> f64 {
    const WORDS: usize = 96 << 20;
    let data = vec![1u64; WORDS];
    let total = AtomicU64::new(0);
    let read = || {
        parallel::for_each_range(WORDS, 1 << 16, |range| {
            let mut sums = [0u64; 32];
            for chunk in data[range].chunks_exact(32) {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum ^= x;
                }
            }
            total.fetch_add(sums.iter().sum(), Ordering::Relaxed);
        });
    };
    let time = clock::best(read);
    std::hint::black_box(total.into_inner());
    8e-9 * WORDS as f64 / time
}

/// GFLOP/s of all threads together, each running `f`, which does `lanes` multiply-adds per turn.
#[cfg(target_arch = "x86_64")]
fn multiply_add(f: impl Fn(usize) -> f32 + Sync, lanes: usize) -> f64 {
    const TURNS: usize = 200_000;
    let threads = parallel::threads();
    let time = clock::best(|| {
        parallel::for_each_task(threads, |_| {
            std::hint::black_box(f(TURNS));
        });
    });
    2e-9 * (TURNS * lanes * threads) as f64 / time
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(turns: usize) -> f32 {
        let mut sums = [_mm512_set1_ps(0.0); 16];
        let half = _mm512_set1_ps(0.5);
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, half, half);
            }
        }
        sums.into_iter().map(|sum| _mm512_cvtss_f32(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(turns: usize) -> f32 {
        let mut sums = [_mm256_set1_ps(0.0); 12];
        let half = _mm256_set1_ps(0.5);
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, half, half);
            }
        }
        sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
    }
}
