//! Each kernel written to be obviously right, in f64 where that helps and on one thread. Nothing here is fast; tests and
//! benches compare the kernels with it. Shapes are assumed to be right.

use crate::{Activation, AttentionRow, ExpertWeights, Matrix, Routes};

/// All elements of a matrix, widened.
pub fn widen(w: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![0.0; w.rows * w.cols];
    w.values.widen(0, &mut out);
    out
}

pub fn linear(x: &[f32], n: usize, w: Matrix<'_>) -> Vec<f32> {
    let weights = widen(w);
    let mut y = Vec::with_capacity(n * w.rows);
    for row in 0..n {
        for feature in 0..w.rows {
            let mut sum = 0f64;
            for k in 0..w.cols {
                sum += f64::from(x[row * w.cols + k]) * f64::from(weights[feature * w.cols + k]);
            }
            y.push(sum as f32);
        }
    }
    y
}

/// What quantised products compute: inputs rounded to 127 steps of their row's largest magnitude, integers summed exactly.
pub fn quantised_linear(x: &[f32], n: usize, w: Matrix<'_>) -> Vec<f32> {
    let weights = widen(w);
    let mut y = Vec::with_capacity(n * w.rows);
    for row in 0..n {
        let x = &x[row * w.cols..(row + 1) * w.cols];
        let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
        if x.iter().any(|x| !x.is_finite()) {
            y.extend(std::iter::repeat_n(f32::NAN, w.rows));
            continue;
        }
        let scale = max / 127.0;
        let steps: Vec<f64> = x.iter().map(|x| f64::from((x * (127.0 / max)).round_ties_even())).collect();
        for feature in 0..w.rows {
            let row = &weights[feature * w.cols..(feature + 1) * w.cols];
            let sum: f64 = if max == 0.0 { 0.0 } else { steps.iter().zip(row).map(|(x, &w)| x * f64::from(w)).sum() };
            y.push((sum * f64::from(scale)) as f32);
        }
    }
    y
}

pub fn rms_norm(x: &[f32], d: usize, weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(d) {
        let mean = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / d as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        out.extend(row.iter().zip(weight).map(|(&x, &w)| (f64::from(x) * scale * f64::from(w)) as f32));
    }
    out
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

/// The error function: its series near 0, its continued fraction further out.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        x
    } else if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI * x.signum()
    } else if a > 6.0 {
        x.signum()
    } else {
        let mut fraction = a;
        for n in (1..60).rev() {
            fraction = a + f64::from(n) / 2.0 / fraction;
        }
        (1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()) * x.signum()
    }
}

pub fn activation(act: Activation, x: f32) -> f32 {
    activation_f64(act, f64::from(x)) as f32
}

#[allow(clippy::approx_constant)] // Laplace has the reference's own numbers.
pub fn activation_f64(act: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| if x > 20.0 { x } else { x.exp().ln_1p() };
    let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2));
    match act {
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::LeakyRelu => x.max(0.01 * x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Gelu10 => gelu(x).clamp(-10.0, 10.0),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Mish => x * softplus(x).tanh(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Laplace => 0.5 * (1.0 + erf((x - 0.707107) / (0.282095 * std::f64::consts::SQRT_2))),
        Activation::SqrtSoftplus => softplus(x).sqrt(),
        Activation::Identity => x,
    }
}

pub fn attention(row: &AttentionRow<'_>, heads: usize, head_dim: usize) -> Vec<f32> {
    let width = heads * head_dim;
    let mut out = vec![0.0; row.q_len * width];
    if row.kv_len == 0 {
        return out;
    }
    for head in 0..heads {
        for i in 0..row.q_len {
            let mut scores = Vec::with_capacity(row.kv_len);
            for j in 0..row.kv_len {
                let causal = row.causal_offset.is_none_or(|past| j <= i + past);
                let masked = row.mask.is_some_and(|mask| mask[j] == 0);
                if !causal || masked {
                    scores.push(f64::from(f32::MIN));
                    continue;
                }
                let mut score = 0f64;
                for c in 0..head_dim {
                    let c = head * head_dim + c;
                    score += f64::from(row.q[i * width + c]) * f64::from(row.k[j * width + c]);
                }
                if let Some(bias) = &row.bias {
                    score += f64::from(bias.values[head * bias.span + bias.zero + j - (bias.q_start + i)]);
                }
                scores.push(score);
            }
            let p = softmax(&scores);
            for c in 0..head_dim {
                let c = head * head_dim + c;
                out[i * width + c] =
                    (0..row.kv_len).map(|j| p[j] * f64::from(row.v[j * width + c])).sum::<f64>() as f32;
            }
        }
    }
    out
}

pub fn feed_forward(x: &[f32], n: usize, weights: &ExpertWeights<'_>, act: Activation) -> Vec<f32> {
    let mut hidden = linear(x, n, weights.wi);
    for h in &mut hidden {
        *h = activation(act, *h);
    }
    if let Some(wi_1) = weights.wi_1 {
        for (h, g) in hidden.iter_mut().zip(linear(x, n, wi_1)) {
            *h *= g;
        }
    }
    linear(&hidden, n, weights.wo)
}

pub fn experts(x: &[f32], d: usize, routes: &Routes, act: Activation, weights: &[ExpertWeights<'_>]) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for (token, x) in x.chunks_exact(d).enumerate() {
        match usize::try_from(routes.expert[token]) {
            Ok(expert) => {
                let y = feed_forward(x, 1, &weights[expert], act);
                out.extend(y.into_iter().map(|y| y * routes.weight[token]));
            }
            Err(_) => out.extend(std::iter::repeat_n(0.0, d)),
        }
    }
    out
}
