//! Products with int8 and int4 weights on base-8's shapes, and the peak of the units that do them.

use crate::clock;
use crate::products::{check_to, numbers};
use switch_kernels::quantised::{quantise_int4, quantise_int8};
use switch_kernels::{linear, parallel, reference, Matrix, Values};

/// Weights in one form; `group` 0 is int8.
struct Weights {
    group: usize,
    int8: Vec<i8>,
    int4: Vec<u8>,
    scales: Vec<f32>,
}

impl Weights {
    fn new(wide: &[f32], cols: usize, group: usize) -> Self {
        let mut w = Self { group, int8: Vec::new(), int4: Vec::new(), scales: Vec::new() };
        if let Some(groups) = wide.len().checked_div(group) {
            w.int4 = vec![0; wide.len() / 2];
            w.scales = vec![0.0; groups];
            assert!(quantise_int4(wide, group, &mut w.int4, &mut w.scales).expect("shape"));
        } else {
            w.int8 = vec![0; wide.len()];
            w.scales = vec![0.0; wide.len() / cols];
            assert!(quantise_int8(wide, cols, &mut w.int8, &mut w.scales).expect("shape"));
        }
        w
    }

    fn matrix(&self, rows: usize, cols: usize) -> Matrix<'_> {
        let values = match self.group {
            0 => Values::I8 { values: &self.int8, scales: &self.scales },
            group => Values::I4 { values: &self.int4, scales: &self.scales, group },
        };
        Matrix::new(values, rows, cols).expect("shape")
    }
}

const FORMS: [(&str, usize); 3] = [("int8", 0), ("int4/32", 32), ("int4/64", 64)];

pub fn run(wanted: &dyn Fn(&str) -> bool) {
    if wanted("machine int8") {
        print_peaks();
    }
    for (form, group) in FORMS {
        for n in [1, 4, 8, 16] {
            let name = format!("from memory {form} {n}x768 to 768");
            if wanted(&name) {
                from_memory(&name, n, group);
            }
        }
    }
    for (rows, cols) in [(768, 768), (2048, 768), (768, 2048), (32128, 768)] {
        let wide = numbers(rows * cols);
        for (form, group) in FORMS {
            let w = Weights::new(&wide, cols, group);
            for n in [1, 8, 32, 128, 512] {
                let name = format!("linear {form} {n}x{cols} to {rows}");
                if (rows < 10_000 || n <= 8) && wanted(&name) {
                    product(&name, n, w.matrix(rows, cols));
                }
            }
        }
    }
}

fn product(name: &str, n: usize, w: Matrix<'_>) {
    let x = numbers(n * w.cols);
    let mut y = vec![0.0; n * w.rows];
    linear(&x, n, w, &mut y).expect("shapes");
    let part = w.rows_at(0, w.rows.min(64)).expect("rows");
    let found: Vec<f32> = y.chunks_exact(w.rows).flat_map(|row| row[..part.rows].to_vec()).collect();
    check_to(name, &found, &reference::quantised_linear(&x, n, part), 2e-6);
    let time = clock::best(|| linear(&x, n, w, &mut y).expect("shapes"));
    let operations = 2e-9 * (n * w.rows * w.cols) as f64;
    let bytes = 1e-9 * w.values.bytes() as f64;
    println!(
        "{name:36} {:8.1} GOP/s    {:7.1} GB/s of weights  {:9.1} us",
        operations / time,
        bytes / time,
        time * 1e6
    );
}

/// Decoding's case: every matrix comes from memory. Each run takes the next few.
fn from_memory(name: &str, n: usize, group: usize) {
    const SIDE: usize = 768;
    const TOGETHER: usize = 16;
    const MATRICES: usize = 1400;
    let one = Weights::new(&numbers(SIDE * SIDE), SIDE, group);
    let bytes = one.matrix(SIDE, SIDE).values.bytes();
    let (int8, int4) = (one.int8.repeat(MATRICES), one.int4.repeat(MATRICES));
    let scales = one.scales.repeat(MATRICES);
    let (x, mut y) = (numbers(n * SIDE), vec![0.0; n * SIDE]);
    let mut next = 0;
    let time = clock::best(|| {
        for _ in 0..TOGETHER {
            let part = |len: usize| next * len..(next + 1) * len;
            let scales = &scales[part(one.scales.len())];
            let values = match group {
                0 => Values::I8 { values: &int8[part(one.int8.len())], scales },
                group => Values::I4 { values: &int4[part(one.int4.len())], scales, group },
            };
            linear(&x, n, Matrix::new(values, SIDE, SIDE).expect("shape"), &mut y).expect("shapes");
            next = (next + 1) % MATRICES;
        }
    });
    println!("{name:36} {:7.1} GB/s of weights", 1e-9 * (TOGETHER * bytes) as f64 / time);
}

/// What the units do in registers, all threads together.
fn print_peaks() {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vnni") {
            // SAFETY: detected.
            println!("int8 avx512-vnni {:8.1} GOP/s", peak(|turns| unsafe { x86::vnni(turns) }, 16 * 64));
        }
        if switch_kernels::isa::Isa::Amx.available() {
            // SAFETY: the tiles were granted.
            println!("int8 amx         {:8.1} GOP/s", peak(|turns| unsafe { x86::amx(turns) }, 4 * 16 * 16 * 64));
        }
    }
    let _ = parallel::threads();
}

#[cfg(target_arch = "x86_64")]
fn peak(f: impl Fn(usize) + Sync, products: usize) -> f64 {
    const TURNS: usize = 100_000;
    let threads = parallel::threads();
    let time = clock::best(|| parallel::for_each_task(threads, |_| f(TURNS)));
    2e-9 * (TURNS * products * threads) as f64 / time
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub unsafe fn vnni(turns: usize) {
        let mut sums = [_mm512_set1_epi32(0); 16];
        let (a, b) = (_mm512_set1_epi8(3), _mm512_set1_epi8(-5));
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
    }

    /// Eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    pub unsafe fn amx(turns: usize) {
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for tile in 0..8 {
            configuration.0[16 + 2 * tile] = 64;
            configuration.0[48 + tile] = 16;
        }
        // SAFETY: the caller's promise; nothing but tiles is touched.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack));
            for _ in 0..turns {
                asm!(
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm1, tmm4, tmm7",
                    "tdpbssd tmm2, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    options(nostack, nomem)
                );
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}
