//! The WebAssembly side of `wasm.mjs`: a product whose time JavaScript takes, after comparing it with the reference.

use switch_kernels::quantised::{quantise_int4, quantise_int8};
use switch_kernels::{attention, linear, reference, AttentionRow, Matrix, RelativeBias, Values};

struct Case {
    x: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<u16>,
    int8: Vec<i8>,
    int4: Vec<u8>,
    row_scales: Vec<f32>,
    group_scales: Vec<f32>,
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
    /// `form`: 0 float32, 1 bfloat16, 2 int8, 3 int4.
    fn matrix(&self, form: u32) -> Matrix<'_> {
        let values = match form {
            0 => Values::F32(&self.wide),
            1 => Values::Bf16(&self.narrow),
            2 => Values::I8 { values: &self.int8, scales: &self.row_scales },
            _ => Values::I4 { values: &self.int4, scales: &self.group_scales, group: 32 },
        };
        Matrix::new(values, self.rows, self.cols).unwrap()
    }
}

/// A case of `n` rows through weights of `rows` by `cols`; never freed.
#[no_mangle]
pub extern "C" fn prepare(n: usize, rows: usize, cols: usize) -> *mut std::ffi::c_void {
    let wide = numbers(rows * cols);
    let narrow = wide.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let (mut int8, mut int4) = (vec![0; rows * cols], vec![0; rows * cols / 2]);
    let (mut row_scales, mut group_scales) = (vec![0.0; rows], vec![0.0; rows * cols / 32]);
    quantise_int8(&wide, cols, &mut int8, &mut row_scales).unwrap();
    quantise_int4(&wide, 32, &mut int4, &mut group_scales).unwrap();
    let (x, y) = (numbers(n * cols), vec![0.0; n * rows]);
    let case = Case { x, wide, narrow, int8, int4, row_scales, group_scales, y, n, rows, cols };
    Box::into_raw(Box::new(case)).cast()
}

/// # Safety
/// `case` comes from `prepare`.
#[no_mangle]
pub unsafe extern "C" fn multiply(case: *mut std::ffi::c_void, form: u32) {
    // SAFETY: as the caller promises.
    let case = unsafe { &mut *case.cast::<Case>() };
    let mut y = std::mem::take(&mut case.y);
    linear(&case.x, case.n, case.matrix(form), &mut y).unwrap();
    case.y = y;
}

/// The relative error of the last product's first rows.
///
/// # Safety
/// `case` comes from `prepare`.
#[no_mangle]
pub unsafe extern "C" fn error(case: *mut std::ffi::c_void, form: u32) -> f64 {
    // SAFETY: as the caller promises.
    let case = unsafe { &*case.cast::<Case>() };
    let n = case.n.min(4);
    let reference = if form < 2 { reference::linear } else { reference::quantised_linear };
    let expected = reference(&case.x[..n * case.cols], n, case.matrix(form));
    let square = |x: f64| x * x;
    let pairs = || case.y.iter().zip(&expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| square(a - b)).sum();
    (difference / pairs().map(|(_, b)| square(b)).sum::<f64>()).sqrt()
}

struct Attention {
    /// Queries, keys and values, each `[n, heads * head_dim]`.
    projections: [Vec<f32>; 3],
    bias: Vec<f32>,
    out: Vec<f32>,
    n: usize,
    heads: usize,
}

impl Attention {
    fn row(&self) -> AttentionRow<'_> {
        let [q, k, v] = &self.projections;
        let bias = RelativeBias { values: &self.bias, span: 2 * self.n, zero: self.n, q_start: 0 };
        AttentionRow { q, k, v, q_len: self.n, kv_len: self.n, mask: None, causal_offset: None, bias: Some(bias) }
    }
}

/// Attention of `n` queries to as many keys, with the bias of an encoder; never freed.
#[no_mangle]
pub extern "C" fn prepare_attention(n: usize, heads: usize, head_dim: usize) -> *mut std::ffi::c_void {
    let size = n * heads * head_dim;
    let mut all = numbers(3 * size).into_iter();
    let projections = [(); 3].map(|()| all.by_ref().take(size).map(|x| x / 4.0).collect());
    let bias = numbers(heads * 2 * n);
    Box::into_raw(Box::new(Attention { projections, bias, out: vec![0.0; size], n, heads })).cast()
}

/// # Safety
/// `case` comes from `prepare_attention`.
#[no_mangle]
pub unsafe extern "C" fn attend(case: *mut std::ffi::c_void) {
    // SAFETY: as the caller promises.
    let case = unsafe { &mut *case.cast::<Attention>() };
    let mut out = std::mem::take(&mut case.out);
    let head_dim = out.len() / (case.n * case.heads);
    attention(&[case.row()], case.heads, head_dim, &mut [&mut out]).unwrap();
    case.out = out;
}

/// The relative error of the last attention.
///
/// # Safety
/// `case` comes from `prepare_attention`.
#[no_mangle]
pub unsafe extern "C" fn attention_error(case: *mut std::ffi::c_void) -> f64 {
    // SAFETY: as the caller promises.
    let case = unsafe { &*case.cast::<Attention>() };
    let head_dim = case.out.len() / (case.n * case.heads);
    let expected = reference::attention(&case.row(), case.heads, head_dim);
    let pairs = || case.out.iter().zip(&expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    (difference / pairs().map(|(_, b)| b * b).sum::<f64>()).sqrt()
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
