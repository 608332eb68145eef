//! Elementary functions as short branch-free code, which compilers turn into vector code inside an [`crate::simd::Op`].
//!
//! Errors are a few units in the last place. Polynomials are minimax fits made for this file; their ranges and errors
//! stand beside them. NaN in gives NaN out: comparisons are written so that it falls through.

use crate::simd::Simd;

/// `a * b + c`, fused where the instruction set has it.
#[inline(always)]
pub(crate) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FMA {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// `c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = fma::<S>(y, x, c[i]);
    }
    y
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    // Past these the result is infinite or 0.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = fma::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits for the product to be exact.
    let r = fma::<S>(n, -0.693_145_75, x);
    let r = fma::<S>(n, -1.428_606_8e-6, r);
    // (exp(r) - 1 - r) / r² on |r| <= ln 2 / 2, to 6.2e-8.
    let p = polynomial::<S, 5>(r, [0.5, 0.166_665_76, 0.041_666_374, 0.008_363_197, 0.001_394_114_1]);
    let y = fma::<S>(p * r, r, r) + 1.0;
    // In two steps, so that results below the normal range are rounded rather than lost.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

#[inline(always)]
pub(crate) fn tanh<S: Simd>(x: f32) -> f32 {
    let a = x.abs();
    let large = 1.0 - 2.0 / (exp::<S>(2.0 * a) + 1.0);
    // (tanh(√u) / √u - 1) / u on u < 0.45, to 3.3e-9.
    let u = a * a;
    let p = polynomial::<S, 6>(
        u,
        [-0.333_333_34, 0.133_332_79, -0.053_953_882, 0.021_727_696, -0.008_217_037, 0.002_157_665],
    );
    let small = fma::<S>(p * u, a, a);
    (if u < 0.45 { small } else { large }).copysign(x)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf<S: Simd>(x: f32) -> f32 {
    let a = x.abs();
    // From 4 on it is 1.
    let a = if a > 4.0 { 4.0 } else { a };
    // erf(√u) / √u on u <= 1, to 3.2e-11.
    let small = a * polynomial::<S, 8>(
        a * a,
        [
            std::f32::consts::FRAC_2_SQRT_PI,
            -0.376_126_38,
            0.112_837_83,
            -0.026_865_445,
            0.005_221_075,
            -0.000_848_471_1,
            0.000_112_705_43,
            -9.680_13e-6,
        ],
    );
    // ln(1 - erf(a)) on 1 <= a <= 4; the error of 1 - exp of it is 2.1e-11.
    let log = polynomial::<S, 8>(
        a,
        [
            0.000_188_045_33,
            -1.129_578_5,
            -0.633_219_84,
            -0.108_418_62,
            0.025_208_283,
            -0.004_204_571,
            0.000_441_338_2,
            -2.168_7e-5,
        ],
    );
    let large = 1.0 - exp::<S>(log);
    (if a < 1.0 { small } else { large }).copysign(x)
}

/// `tanh(ln(1 + exp(x)))`, without the logarithm; 1 past 20, where torch's softplus is linear.
#[inline(always)]
pub(crate) fn tanh_softplus<S: Simd>(x: f32) -> f32 {
    let e = exp::<S>(if x > 20.0 { 20.0 } else { x });
    let n = e * (e + 2.0);
    n / (n + 2.0)
}

/// `ln(1 + exp(x))`, linear past 20 as torch's default threshold has it. Not vector code.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 {
        x
    } else {
        x.exp().ln_1p()
    }
}
