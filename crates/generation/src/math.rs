//! Exponentials, logarithms and sums whose bits are the same on every platform and thread count.
//!
//! Only additions, multiplications and bit casts in a fixed order: no platform libm, no fused multiply-add. The loops
//! are written so that the compiler vectorises them.

/// Adding and subtracting this rounds a small f32 to the nearest integer.
const ROUND: f32 = 12_582_912.0;
const EXP_UNDERFLOW: f32 = -87.0;
const EXP_OVERFLOW: f32 = 88.0;
const LANES: usize = 8;
/// Elements summed in f32 before they go into the f64 total.
const BLOCK: usize = 256;

/// `e^x` with a relative error below 3e-7; 0 below -87, infinity above 88, NaN for NaN.
#[inline]
pub fn exp(x: f32) -> f32 {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the remainder is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.987_569_2e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let scaled = y * f32::from_bits(exponent << 23);
    let scaled = if x < EXP_UNDERFLOW { 0.0 } else { scaled };
    if x > EXP_OVERFLOW {
        f32::INFINITY
    } else {
        scaled
    }
}

/// `values[i] = e^(values[i] - shift)`.
pub fn exp_in_place(values: &mut [f32], shift: f32) {
    for value in values {
        *value = exp(*value - shift);
    }
}

/// The sum, in a fixed order.
pub fn sum(values: &[f32]) -> f64 {
    let mut total = 0.0_f64;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        let tail: f32 = chunks.remainder().iter().sum();
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total
}

/// The sum of products, in a fixed order.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut products = [0.0_f32; BLOCK];
    let mut total = 0.0_f64;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        for (slot, (a, b)) in products.iter_mut().zip(a.iter().zip(b)) {
            *slot = a * b;
        }
        total += sum(products.get(..a.len().min(b.len())).unwrap_or(&[]));
    }
    total
}

/// The largest value; NaN is passed over, and an empty slice gives minus infinity.
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// `ln(sum(e^(values - shift)))`.
pub fn log_sum_exp(values: &[f32], shift: f32) -> f64 {
    let mut buffer = [0.0_f32; BLOCK];
    let mut total = 0.0_f64;
    for block in values.chunks(BLOCK) {
        for (slot, value) in buffer.iter_mut().zip(block) {
            *slot = exp(*value - shift);
        }
        total += sum(buffer.get(..block.len()).unwrap_or(&[]));
    }
    libm::log(total)
}

/// `log_softmax` of a row. A row with nothing above minus infinity stays as it is.
pub fn log_softmax_in_place(scores: &mut [f32]) {
    let top = max(scores);
    if top == f32::NEG_INFINITY {
        return;
    }
    let log_sum = log_sum_exp(scores, top) as f32;
    for score in scores {
        *score = (*score - top) - log_sum;
    }
}

/// The index of the first NaN.
pub fn first_nan(scores: &[f32]) -> Option<usize> {
    // Counting vectorises; searching does not.
    let nans: usize = scores.iter().map(|score| usize::from(score.is_nan())).sum();
    if nans == 0 {
        return None;
    }
    scores.iter().position(|score| score.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        let mut worst = 0.0_f64;
        let mut x = -86.9_f32;
        while x < 87.9 {
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
            x += 0.003_7;
        }
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-1e9), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn log_softmax_sums_to_one_and_keeps_minus_infinity() {
        let mut row: Vec<f32> = (0..32_128).map(|i| ((i * 7919) % 1000) as f32 * 0.01).collect();
        row[5] = f32::NEG_INFINITY;
        log_softmax_in_place(&mut row);
        let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
        assert_eq!(row[5], f32::NEG_INFINITY);
        let mut empty = vec![f32::NEG_INFINITY; 9];
        log_softmax_in_place(&mut empty);
        assert!(empty.iter().all(|x| *x == f32::NEG_INFINITY));
    }

    #[test]
    fn max_passes_over_nan() {
        assert_eq!(max(&[f32::NAN, 1.0, 3.0, f32::NAN]), 3.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
        assert_eq!(first_nan(&[0.0, f32::NAN]), Some(1));
        assert_eq!(first_nan(&[0.0, f32::INFINITY]), None);
    }
}
