//! The WebAssembly side of `wasm.mjs`: a product whose time JavaScript takes, after comparing it with the reference.

use switch_kernels::{linear, reference, Matrix, Values};

struct Case {
    x: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<u16>,
    y: Vec<f32>,
    n: usize,
    rows: usize,
    cols: usize,
}

fn numbers(n: usize) -> Vec<f32> {
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

impl Case {
    fn matrix(&self, narrow: bool) -> Matrix<'_> {
        let values = if narrow { Values::Bf16(&self.narrow) } else { Values::F32(&self.wide) };
        Matrix::new(values, self.rows, self.cols).unwrap()
    }
}

/// A case of `n` rows through weights of `rows` by `cols`; never freed.
#[no_mangle]
pub extern "C" fn prepare(n: usize, rows: usize, cols: usize) -> *mut std::ffi::c_void {
    let wide = numbers(rows * cols);
    let narrow = wide.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let case = Case { x: numbers(n * cols), wide, narrow, y: vec![0.0; n * rows], n, rows, cols };
    Box::into_raw(Box::new(case)).cast()
}

/// # Safety
/// `case` comes from `prepare`.
#[no_mangle]
pub unsafe extern "C" fn multiply(case: *mut std::ffi::c_void, narrow: bool) {
    // SAFETY: as the caller promises.
    let case = unsafe { &mut *case.cast::<Case>() };
    let mut y = std::mem::take(&mut case.y);
    linear(&case.x, case.n, case.matrix(narrow), &mut y).unwrap();
    case.y = y;
}

/// The relative error of the last product's first rows.
///
/// # Safety
/// `case` comes from `prepare`.
#[no_mangle]
pub unsafe extern "C" fn error(case: *mut std::ffi::c_void, narrow: bool) -> f64 {
    // SAFETY: as the caller promises.
    let case = unsafe { &*case.cast::<Case>() };
    let n = case.n.min(4);
    let expected = reference::linear(&case.x[..n * case.cols], n, case.matrix(narrow));
    let square = |x: f64| x * x;
    let pairs = || case.y.iter().zip(&expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| square(a - b)).sum();
    (difference / pairs().map(|(_, b)| square(b)).sum::<f64>()).sqrt()
}

#[cfg(target_arch = "wasm32")]
mod peak {
    use std::arch::wasm32::*;

    /// Multiplies and adds 12 vectors `times` times: what one thread can do at best.
    #[no_mangle]
    pub extern "C" fn peak(times: usize) -> f32 {
        let mut sums = [f32x4_splat(0.0); 12];
        let (a, b) = (f32x4_splat(times as f32), f32x4_splat(1e-9));
        for _ in 0..times {
            for sum in &mut sums {
                *sum = f32x4_add(f32x4_mul(*sum, b), a);
            }
        }
        sums.iter().map(|&sum| f32x4_extract_lane::<0>(sum)).sum()
    }
}
