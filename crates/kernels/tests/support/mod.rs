//! What the kernels' tests share: numbers, comparisons, and running a case under each instruction set.
#![allow(dead_code)] // Each test file uses its own part.

use std::sync::Mutex;
use switch_kernels::{isa, Matrix, Values};

/// Runs `case` once for each instruction set of this machine.
pub fn each_isa(case: impl Fn(&str)) {
    static FORCED: Mutex<()> = Mutex::new(());
    let _guard = FORCED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for isa in isa::available() {
        isa::force(isa.name()).unwrap();
        case(isa.name());
    }
}

/// Pseudo-random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in -1 ..= 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// `‖found − expected‖ / ‖expected‖`
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
    if norm == 0.0 {
        difference.sqrt()
    } else {
        (difference / norm).sqrt()
    }
}

#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let error = relative_error(found, expected);
    assert!(error <= tolerance, "{what}: relative error {error:e} > {tolerance:e}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Store {
    F32,
    F16,
    Bf16,
}

pub const STORES: [Store; 3] = [Store::F32, Store::F16, Store::Bf16];

/// Weights in one of the storage types.
pub struct Weights {
    store: Store,
    rows: usize,
    cols: usize,
    wide: Vec<f32>,
    half: Vec<u16>,
}

impl Weights {
    pub fn random(random: &mut Random, store: Store, rows: usize, cols: usize) -> Self {
        let wide = random.vec(rows * cols);
        let half = wide
            .iter()
            .map(|&x| match store {
                Store::F32 => 0,
                Store::F16 => half::f16::from_f32(x).to_bits(),
                Store::Bf16 => half::bf16::from_f32(x).to_bits(),
            })
            .collect();
        Self { store, rows, cols, wide, half }
    }

    pub fn matrix(&self) -> Matrix<'_> {
        let values = match self.store {
            Store::F32 => Values::F32(&self.wide),
            Store::F16 => Values::F16(&self.half),
            Store::Bf16 => Values::Bf16(&self.half),
        };
        Matrix::new(values, self.rows, self.cols).unwrap()
    }
}
