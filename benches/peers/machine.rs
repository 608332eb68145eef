//! What this machine can do at most: multiply-adds of its units from registers, and bytes read from memory. Every figure
//! of the benches is also given as a fraction of one of these.
//!
//! `rustc --edition 2021 -O machine.rs && ./machine [THREADS]` prints JSON: GFLOP/s (GOP/s for int8; a multiply-add is
//! two) and GB/s (10^9 bytes) of all threads together. Rounds are short and many and the best counts, since others may
//! use the machine meanwhile.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long the rounds of one measurement go on.
const TIME: Duration = Duration::from_millis(1500);
/// Seconds of a round.
const ROUND: f64 = 0.004;
/// Far beyond what a cache keeps; each round reads the next part of it.
const READ_BYTES: usize = 2 << 30;
/// What a thread reads in a round.
const READ_ROUND: usize = 32 << 20;

/// One unit's loop: `run(n)` does `n` times `ops` operations.
struct Unit {
    name: &'static str,
    ops: f64,
    run: fn(u64),
}

/// The rate of `threads` threads that all run `work(thread)` at once, given the operations of all.
fn rate(threads: usize, operations: f64, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    work(thread);
                    (start, Instant::now())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of the measurement")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("a thread");
    let end = spans.iter().map(|span| span.1).max().expect("a thread");
    operations / (end - start).as_secs_f64() / 1e9
}

/// The best round of those that `time` is enough for; `work` gets the round and the thread.
fn best(time: Duration, threads: usize, operations: f64, work: impl Fn(usize, usize) + Sync) -> f64 {
    let (start, mut best, mut round) = (Instant::now(), 0.0f64, 0);
    while start.elapsed() < time {
        best = best.max(rate(threads, operations, |thread| work(round, thread)));
        round += 1;
    }
    best
}

/// How a thread reads its part: so many streams side by side, each asked for `ahead` bytes early (0: not at all).
#[derive(Clone, Copy)]
struct Reading {
    streams: usize,
    ahead: usize,
    wide: bool,
}

/// The best of several ways to read: which one is fastest depends on the machine's own prefetchers.
fn bandwidth(threads: usize) -> f64 {
    let memory = pages(READ_BYTES);
    let parts = READ_BYTES / READ_ROUND;
    let mut ways = Vec::new();
    for wide in if has_wide() { vec![true, false] } else { vec![false] } {
        for streams in [1, 2, 4, 8] {
            for ahead in if wide { vec![0, 512, 1024, 2048, 4096] } else { vec![0] } {
                ways.push(Reading { streams, ahead, wide });
            }
        }
    }
    let mut first = 0;
    let mut run = |way: Reading, time: Duration| {
        let found = best(time, threads, (READ_ROUND * threads) as f64, |round, thread| {
            let part = ((first + round) * threads + thread) % parts;
            black_box(read(&memory[part * READ_ROUND / 8..][..READ_ROUND / 8], way));
        });
        first += 7;
        found
    };
    // Each way for a moment, then the three best for longer.
    let mut found: Vec<_> = ways.iter().map(|&way| (run(way, TIME / 16), way)).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.iter().take(3).map(|&(rate, way)| rate.max(run(way, TIME / 2))).fold(0.0, f64::max)
}

/// Words that have been written to, in large pages where the system gives them: address translation is no limit of memory.
fn pages(bytes: usize) -> Vec<u64> {
    let mut memory: Vec<u64> = Vec::with_capacity(bytes / 8);
    #[cfg(target_os = "linux")]
    {
        extern "C" {
            fn madvise(start: *mut u8, bytes: usize, advice: i32) -> i32;
        }
        const PAGE: usize = 4096;
        const HUGE_PAGE: i32 = 14;
        let start = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE);
        // SAFETY: the pages lie inside the allocation; the advice changes no contents. Refused advice is no loss.
        unsafe { madvise(start as *mut u8, bytes - PAGE, HUGE_PAGE) };
    }
    memory.resize(bytes / 8, 1);
    memory
}

/// The sum of `memory`, of which each stream is a part.
fn read(memory: &[u64], way: Reading) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if way.wide {
        // SAFETY: ways that are wide are tried only where AVX-512 was found.
        return unsafe { units::read_wide(memory, way.streams, way.ahead) };
    }
    // Independent sums, so that loads are what is waited for.
    let mut sums = [0u64; 32];
    let length = memory.len() / way.streams;
    for at in (0..length).step_by(32) {
        for stream in 0..way.streams {
            for (sum, value) in sums.iter_mut().zip(&memory[stream * length + at..][..32]) {
                *sum = sum.wrapping_add(*value);
            }
        }
    }
    sums.iter().fold(0, |sum, value| sum.wrapping_add(*value))
}

#[cfg(target_arch = "x86_64")]
fn has_wide() -> bool {
    is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_wide() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod units {
    use super::Unit;
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Accumulators enough to hide the latency of two units of four cycles each.
    const SUMS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    fn avx2(n: u64) {
        let (a, mut sums) = (_mm256_set1_ps(black_box(0.5)), [_mm256_setzero_ps(); SUMS]);
        for _ in 0..n {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, a);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    fn avx512(n: u64) {
        let (a, mut sums) = (_mm512_set1_ps(black_box(0.5)), [_mm512_setzero_ps(); SUMS]);
        for _ in 0..n {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, a);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn avx512_bf16(n: u64) {
        let a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(0.5));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..n {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512_vnni(n: u64) {
        let (a, mut sums) = (_mm512_set1_epi32(black_box(1)), [_mm512_setzero_si512(); SUMS]);
        for _ in 0..n {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, a);
            }
        }
        black_box(sums);
    }

    /// Sums `memory` in so many streams, four cache lines of each in turn, and asks for what lies `ahead` bytes further on.
    ///
    /// # Safety
    /// AVX-512 is there.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn read_wide(memory: &[u64], streams: usize, ahead: usize) -> u64 {
        const WORDS: usize = 32;
        let mut sums = [_mm512_setzero_si512(); 4];
        let length = memory.len() / streams;
        for at in (0..length / WORDS * WORDS).step_by(WORDS) {
            for stream in 0..streams {
                let from = memory.as_ptr().wrapping_add(stream * length + at);
                for (line, sum) in sums.iter_mut().enumerate() {
                    let from = from.wrapping_add(line * 8);
                    if ahead > 0 {
                        // Asking for what is not there does nothing.
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(ahead).cast());
                    }
                    // SAFETY: four lines from `at` lie in the stream.
                    *sum = _mm512_add_epi64(*sum, unsafe { _mm512_loadu_si512(from.cast()) });
                }
            }
        }
        let sum = sums.into_iter().fold(_mm512_setzero_si512(), |all, sum| _mm512_add_epi64(all, sum));
        _mm512_reduce_add_epi64(sum) as u64
    }

    #[repr(C, align(64))]
    struct TileConfig {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_per_row: [u16; 16],
        rows: [u8; 16],
    }

    /// Linux gives the matrix unit to a process that asks.
    fn request_amx() -> bool {
        const ARCH_PRCTL: usize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XTILEDATA: usize = 18;
        let found = __cpuid_count(7, 0).edx;
        if !cfg!(target_os = "linux") || found & (1 << 24) == 0 {
            return false;
        }
        let result: isize;
        // SAFETY: a system call that reads its two arguments only.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
                 lateout("rcx") _, lateout("r11") _);
        }
        result == 0
    }

    /// Eight tiles of 16 rows of 64 bytes, all zero.
    fn with_tiles(run: impl FnOnce()) {
        let mut config =
            TileConfig { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        config.bytes_per_row[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: called only where AMX has been granted; the configuration is valid and lives long enough.
        unsafe {
            asm!("ldtilecfg [{0}]", "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", "tilezero tmm4",
                 "tilezero tmm5", "tilezero tmm6", "tilezero tmm7", in(reg) &config, options(nostack));
        }
        run();
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack)) };
    }

    fn amx_bf16(n: u64) {
        with_tiles(|| {
            for _ in 0..n {
                // SAFETY: tiles are configured; nothing else uses them.
                unsafe {
                    asm!(
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        options(nostack, nomem)
                    );
                }
            }
        });
    }

    fn amx_int8(n: u64) {
        with_tiles(|| {
            for _ in 0..n {
                // SAFETY: as above.
                unsafe {
                    asm!(
                        "tdpbssd tmm0, tmm4, tmm6",
                        "tdpbssd tmm1, tmm4, tmm7",
                        "tdpbssd tmm2, tmm5, tmm6",
                        "tdpbssd tmm3, tmm5, tmm7",
                        options(nostack, nomem)
                    );
                }
            }
        });
    }

    pub fn all() -> Vec<Unit> {
        let mut units = Vec::new();
        let mut add = |found: bool, name, ops: f64, run| {
            if found {
                units.push(Unit { name, ops, run });
            }
        };
        let sums = SUMS as f64;
        // SAFETY (all): each is run only where its features were found.
        add(is_x86_feature_detected!("fma"), "avx2_float32", sums * 16.0, |n| unsafe { avx2(n) });
        add(is_x86_feature_detected!("avx512f"), "avx512_float32", sums * 32.0, |n| unsafe { avx512(n) });
        add(is_x86_feature_detected!("avx512bf16"), "avx512_bfloat16", sums * 64.0, |n| unsafe { avx512_bf16(n) });
        add(is_x86_feature_detected!("avx512vnni"), "avx512_int8", sums * 128.0, |n| unsafe { avx512_vnni(n) });
        if request_amx() {
            let found = __cpuid_count(7, 0).edx;
            add(found & (1 << 22) != 0, "amx_bfloat16", 4.0 * 16.0 * 16.0 * 64.0, amx_bf16);
            add(found & (1 << 25) != 0, "amx_int8", 4.0 * 16.0 * 16.0 * 128.0, amx_int8);
        }
        units
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod units {
    use super::Unit;
    use std::hint::black_box;

    /// Whatever the compiler makes of it for the baseline: four lanes of multiply-adds on aarch64.
    fn vectors(n: u64) {
        let (a, mut sums) = (black_box(0.5f32), [[0f32; 4]; 16]);
        for _ in 0..n {
            for sum in &mut sums {
                for lane in sum {
                    *lane = if cfg!(target_feature = "neon") { lane.mul_add(a, a) } else { *lane * a + a };
                }
            }
        }
        black_box(sums);
    }

    pub fn all() -> Vec<Unit> {
        vec![Unit { name: "baseline_float32", ops: 16.0 * 4.0 * 2.0, run: vectors }]
    }
}

fn main() {
    let given = std::env::args().nth(1).and_then(|threads| threads.parse().ok()).filter(|&threads| threads > 0);
    let threads = given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let mut fields = vec![format!("\"threads\":{threads}")];
    for Unit { name, ops, run } in units::all() {
        // As many repetitions as make a round.
        let mut n = 1000;
        loop {
            let start = Instant::now();
            run(n);
            if start.elapsed().as_secs_f64() > ROUND {
                break;
            }
            n *= 2;
        }
        let found = best(TIME, threads, n as f64 * ops * threads as f64, |_, _| run(n));
        fields.push(format!("\"{name}\":{found:.1}"));
    }
    fields.push(format!("\"memory_read\":{:.1}", bandwidth(threads)));
    println!("{{{}}}", fields.join(","));
}
