//! Linear layers of base-8 (d_model 768, d_ff 2048, vocabulary 32128), from one row to a batch.

use crate::clock;
use switch_kernels::{linear_with, reference, Matrix, Precision, Values};

pub fn numbers(n: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Panics unless `found` is `expected` to float32's accuracy.
pub fn check(name: &str, found: &[f32], expected: &[f32]) {
    check_to(name, found, expected, 2e-6);
}

pub fn check_to(name: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
    let relative = (error / norm).sqrt();
    assert!(relative < tolerance, "{name}: relative error {relative:e}; not timed");
}

pub fn run(wanted: &dyn Fn(&str) -> bool) {
    for (n, store) in [1, 4, 8, 16, 24].into_iter().flat_map(|n| [(n, "f32"), (n, "bf16")]) {
        let name = format!("from memory {store} {n}x768 to 768");
        if wanted(&name) {
            from_memory(&name, n, store == "bf16");
        }
    }
    for (rows, cols) in [(768, 768), (2048, 768), (768, 2048), (32128, 768)] {
        let wide = numbers(rows * cols);
        let bf16: Vec<u16> = wide.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
        let f16: Vec<u16> = wide.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect();
        for n in [1, 4, 8, 32, 128, 512, 1024] {
            if rows > 10_000 && n > 8 {
                continue;
            }
            for (store, values, precision) in [
                ("f32", Values::F32(&wide), Precision::Float32),
                ("bf16", Values::Bf16(&bf16), Precision::Float32),
                ("bf16 of 16 bits", Values::Bf16(&bf16), Precision::Reduced),
                ("bf16 rounded", Values::Bf16(&bf16), Precision::Bfloat16),
                ("f16", Values::F16(&f16), Precision::Float32),
            ] {
                let name = format!("linear {store} {n}x{cols} to {rows}");
                if wanted(&name) {
                    product(&name, precision, n, Matrix::new(values, rows, cols).expect("shape"));
                }
            }
        }
    }
}

/// Decoding's case: every matrix comes from memory, since a model is larger than the caches. Each run takes the next few.
fn from_memory(name: &str, n: usize, narrow: bool) {
    const SIDE: usize = 768;
    const BYTES: usize = 1 << 30;
    const TOGETHER: usize = 8;
    let (x, mut y) = (numbers(n * SIDE), vec![0.0; n * SIDE]);
    let (wide, bits) = match narrow {
        true => (Vec::new(), vec![0x3c00u16; BYTES / 2]),
        false => (vec![1.0f32; BYTES / 4], Vec::new()),
    };
    let mut matrices = wide
        .chunks_exact(SIDE * SIDE)
        .map(Values::F32)
        .chain(bits.chunks_exact(SIDE * SIDE).map(Values::Bf16))
        .cycle()
        .map(|values| Matrix::new(values, SIDE, SIDE).expect("shape"));
    let time = clock::best(|| {
        for w in matrices.by_ref().take(TOGETHER) {
            linear_with(Precision::Float32, &x, n, w, &mut y).expect("shapes");
        }
    });
    let bytes = TOGETHER * SIDE * SIDE * if narrow { 2 } else { 4 };
    println!("{name:36} {:7.1} GB/s of weights", 1e-9 * bytes as f64 / time);
}

fn product(name: &str, precision: Precision, n: usize, w: Matrix<'_>) {
    let x = numbers(n * w.cols);
    let mut y = vec![0.0; n * w.rows];
    linear_with(precision, &x, n, w, &mut y).expect("shapes");
    // The first rows of the weights stand for all: the reference is slow.
    let part = w.rows_at(0, w.rows.min(64)).expect("rows");
    let found: Vec<f32> = y.chunks_exact(w.rows).flat_map(|row| row[..part.rows].to_vec()).collect();
    let tolerance = if precision == Precision::Float32 { 2e-6 } else { 6e-3 };
    check_to(name, &found, &reference::linear(&x, n, part), tolerance);
    let time = clock::best(|| linear_with(precision, &x, n, w, &mut y).expect("shapes"));
    let flops = 2e-9 * (n * w.rows * w.cols) as f64;
    let bytes = 1e-9 * w.values.bytes() as f64;
    println!("{name:36} {:8.1} GFLOP/s  {:7.1} GB/s of weights  {:9.1} us", flops / time, bytes / time, time * 1e6);
}
