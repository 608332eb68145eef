//! Forwards and backward passes of training written to be obviously right, in f64 and on one thread. Shapes are assumed to
//! be right.

use super::{Dropout, TokenLossOptions};
use crate::reference::{activation_f64, softmax};
use crate::{Activation, AttentionRow};

pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

pub fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// `x · wᵀ` for `x [n, cols]` and `w [rows, cols]`.
pub fn linear(x: &[f64], w: &[f64], n: usize, rows: usize, cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; n * rows];
    for t in 0..n {
        for r in 0..rows {
            y[t * rows + r] = (0..cols).map(|c| x[t * cols + c] * w[r * cols + c]).sum();
        }
    }
    y
}

/// `dy · w`
pub fn linear_backward_input(dy: &[f64], w: &[f64], n: usize, rows: usize, cols: usize) -> Vec<f64> {
    let mut dx = vec![0.0; n * cols];
    for t in 0..n {
        for r in 0..rows {
            for c in 0..cols {
                dx[t * cols + c] += dy[t * rows + r] * w[r * cols + c];
            }
        }
    }
    dx
}

/// `dyᵀ · x`
pub fn linear_backward_weight(dy: &[f64], x: &[f64], n: usize, rows: usize, cols: usize) -> Vec<f64> {
    let mut dw = vec![0.0; rows * cols];
    for t in 0..n {
        for r in 0..rows {
            for c in 0..cols {
                dw[r * cols + c] += dy[t * rows + r] * x[t * cols + c];
            }
        }
    }
    dw
}

pub fn rms_norm(x: &[f64], width: usize, weight: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for x in x.chunks_exact(width) {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / width as f64 + eps).sqrt();
        y.extend(x.iter().zip(weight).map(|(x, w)| x * r * w));
    }
    y
}

/// `(dx, dweight)`
pub fn rms_norm_backward(x: &[f64], width: usize, weight: &[f64], eps: f64, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dweight) = (Vec::with_capacity(x.len()), vec![0.0; width]);
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / width as f64 + eps).sqrt();
        let mean = (0..width).map(|i| x[i] * weight[i] * dy[i]).sum::<f64>() / width as f64;
        for i in 0..width {
            dx.push(r * weight[i] * dy[i] - x[i] * r.powi(3) * mean);
            dweight[i] += dy[i] * x[i] * r;
        }
    }
    (dx, dweight)
}

/// The slope of an activation: exact where it is piecewise polynomial, else by differences.
pub fn slope(act: Activation, x: f64) -> f64 {
    match act {
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Relu2 => 2.0 * x.max(0.0),
        Activation::Relu6 => f64::from(u8::from(x > 0.0 && x < 6.0)),
        Activation::LeakyRelu => {
            if x > 0.0 {
                1.0
            } else {
                0.01
            }
        }
        _ => {
            let h = 1e-4;
            let at = |steps: f64| activation_f64(act, x + steps * h);
            (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h)
        }
    }
}

/// A feed-forward layer's weights, `wi` and `wi_1` of `[d_ff, d]` and `wo` of `[d, d_ff]`.
#[derive(Debug, Clone)]
pub struct FeedForward {
    pub d: usize,
    pub d_ff: usize,
    pub wi: Vec<f64>,
    pub wi_1: Option<Vec<f64>>,
    pub wo: Vec<f64>,
}

/// The gradients of a feed-forward layer.
#[derive(Debug, Clone)]
pub struct FeedForwardGradients {
    pub wi: Vec<f64>,
    pub wi_1: Option<Vec<f64>>,
    pub wo: Vec<f64>,
    pub x: Vec<f64>,
}

impl FeedForward {
    /// What goes into the activation, what it is multiplied by (gate and dropout), and the gates.
    fn inner(&self, x: &[f64], tokens: &[usize], dropout: &Dropout) -> (Vec<f64>, Vec<f64>, Option<Vec<f64>>) {
        let (n, d, d_ff) = (tokens.len(), self.d, self.d_ff);
        let hidden = linear(x, &self.wi, n, d_ff, d);
        let gate = self.wi_1.as_ref().map(|wi_1| linear(x, wi_1, n, d_ff, d));
        let factors =
            (0..n * d_ff).map(|i| f64::from(dropout.factor((tokens[i / d_ff] * d_ff + i % d_ff) as u64))).collect();
        (hidden, factors, gate)
    }

    /// Of the tokens whose rows `x` holds, numbered for dropout by `tokens`.
    pub fn forward(&self, x: &[f64], tokens: &[usize], act: Activation, dropout: &Dropout) -> Vec<f64> {
        let (mut hidden, factors, gate) = self.inner(x, tokens, dropout);
        for (i, h) in hidden.iter_mut().enumerate() {
            *h = activation_f64(act, *h) * gate.as_ref().map_or(1.0, |gate| gate[i]) * factors[i];
        }
        linear(&hidden, &self.wo, tokens.len(), self.d, self.d_ff)
    }

    pub fn backward(
        &self,
        x: &[f64],
        tokens: &[usize],
        act: Activation,
        dropout: &Dropout,
        dy: &[f64],
    ) -> FeedForwardGradients {
        let (n, d, d_ff) = (tokens.len(), self.d, self.d_ff);
        let (hidden, factors, gate) = self.inner(x, tokens, dropout);
        let gate_at = |i: usize| gate.as_ref().map_or(1.0, |gate| gate[i]);
        let inside: Vec<f64> =
            hidden.iter().enumerate().map(|(i, &h)| activation_f64(act, h) * gate_at(i) * factors[i]).collect();
        let wo = linear_backward_weight(dy, &inside, n, d, d_ff);
        let back = linear_backward_input(dy, &self.wo, n, d, d_ff);
        let dh: Vec<f64> =
            hidden.iter().enumerate().map(|(i, &h)| back[i] * factors[i] * gate_at(i) * slope(act, h)).collect();
        let mut dx = linear_backward_input(&dh, &self.wi, n, d_ff, d);
        let wi_1 = self.wi_1.as_ref().map(|wi_1| {
            let dgate: Vec<f64> =
                hidden.iter().enumerate().map(|(i, &h)| back[i] * factors[i] * activation_f64(act, h)).collect();
            for (dx, more) in dx.iter_mut().zip(linear_backward_input(&dgate, wi_1, n, d_ff, d)) {
                *dx += more;
            }
            linear_backward_weight(&dgate, x, n, d_ff, d)
        });
        FeedForwardGradients { wi: linear_backward_weight(&dh, x, n, d_ff, d), wi_1, wo, x: dx }
    }
}

/// Inputs of attention in f64; the shape, masks and bias's place are those of `row`.
#[derive(Debug, Clone)]
pub struct Attention {
    pub q: Vec<f64>,
    pub k: Vec<f64>,
    pub v: Vec<f64>,
    /// Values of the bias, or empty.
    pub bias: Vec<f64>,
}

impl Attention {
    pub fn of(row: &AttentionRow<'_>) -> Self {
        Self {
            q: widen(row.q),
            k: widen(row.k),
            v: widen(row.v),
            bias: row.bias.map_or(Vec::new(), |bias| widen(bias.values)),
        }
    }

    /// Whether each key is seen, and the place of its bias; a query that sees none sees all, its scores being equal.
    fn line(&self, row: &AttentionRow<'_>, head: usize, i: usize) -> (Vec<bool>, Vec<usize>, bool) {
        let seen: Vec<bool> = (0..row.kv_len)
            .map(|j| row.causal_offset.is_none_or(|past| j <= i + past) && row.mask.is_none_or(|mask| mask[j] != 0))
            .collect();
        let place = |j: usize| {
            row.bias.map_or(0, |bias| head * bias.span + (bias.zero + j - (bias.q_start + i)).min(bias.span - 1))
        };
        let lonely = !seen.contains(&true);
        (seen, (0..row.kv_len).map(place).collect(), lonely)
    }

    fn probabilities(&self, row: &AttentionRow<'_>, heads: usize, head_dim: usize, head: usize, i: usize) -> Vec<f64> {
        let width = heads * head_dim;
        let (seen, places, lonely) = self.line(row, head, i);
        let score = |j: usize| {
            let at = |c: usize| head * head_dim + c;
            let dot: f64 = (0..head_dim).map(|c| self.q[i * width + at(c)] * self.k[j * width + at(c)]).sum();
            dot + self.bias.get(places[j]).copied().unwrap_or(0.0)
        };
        let scores: Vec<f64> = (0..row.kv_len)
            .map(|j| match (lonely, seen[j]) {
                (true, _) => 0.0,
                (false, true) => score(j),
                (false, false) => f64::NEG_INFINITY,
            })
            .collect();
        softmax(&scores)
    }

    /// Dropout numbers the row's first probability `first`.
    pub fn forward(
        &self,
        row: &AttentionRow<'_>,
        heads: usize,
        head_dim: usize,
        dropout: &Dropout,
        first: u64,
    ) -> Vec<f64> {
        let width = heads * head_dim;
        let mut out = vec![0.0; row.q_len * width];
        for head in 0..heads {
            for i in 0..row.q_len {
                let p = self.probabilities(row, heads, head_dim, head, i);
                for (j, p) in p.iter().enumerate() {
                    let factor = factor(dropout, first, row, head, i, j);
                    for c in head * head_dim..(head + 1) * head_dim {
                        out[i * width + c] += p * factor * self.v[j * width + c];
                    }
                }
            }
        }
        out
    }

    /// The gradients of all inputs.
    pub fn backward(
        &self,
        row: &AttentionRow<'_>,
        heads: usize,
        head_dim: usize,
        dropout: &Dropout,
        first: u64,
        dout: &[f64],
    ) -> Self {
        let width = heads * head_dim;
        let mut back = Self {
            q: vec![0.0; self.q.len()],
            k: vec![0.0; self.k.len()],
            v: vec![0.0; self.v.len()],
            bias: vec![0.0; self.bias.len()],
        };
        for head in 0..heads {
            let columns = head * head_dim..(head + 1) * head_dim;
            for i in 0..row.q_len {
                let p = self.probabilities(row, heads, head_dim, head, i);
                let (_, places, _) = self.line(row, head, i);
                let mut dp = vec![0.0; row.kv_len];
                for j in 0..row.kv_len {
                    let factor = factor(dropout, first, row, head, i, j);
                    for c in columns.clone() {
                        dp[j] += dout[i * width + c] * self.v[j * width + c] * factor;
                        back.v[j * width + c] += p[j] * factor * dout[i * width + c];
                    }
                }
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for j in 0..row.kv_len {
                    let ds = p[j] * (dp[j] - mean);
                    for c in columns.clone() {
                        back.q[i * width + c] += ds * self.k[j * width + c];
                        back.k[j * width + c] += ds * self.q[i * width + c];
                    }
                    if let Some(to) = back.bias.get_mut(places[j]) {
                        *to += ds;
                    }
                }
            }
        }
        back
    }
}

fn factor(dropout: &Dropout, first: u64, row: &AttentionRow<'_>, head: usize, i: usize, j: usize) -> f64 {
    f64::from(dropout.factor(first + ((head * row.q_len + i) * row.kv_len + j) as u64))
}

/// The summed parts of the loss: hard, squared log-sum-exp, soft.
pub fn token_loss(
    logits: &[f64],
    vocab: usize,
    labels: &[i64],
    teacher: Option<&[f64]>,
    options: &TokenLossOptions,
) -> [f64; 3] {
    let smoothing = f64::from(options.label_smoothing);
    let t = f64::from(options.temperature);
    let mut sums = [0.0; 3];
    for (token, (x, &label)) in logits.chunks_exact(vocab).zip(labels).enumerate() {
        if label == options.ignore_index {
            continue;
        }
        let log_p = |x: &[f64]| -> Vec<f64> {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            x.iter().map(|x| x - lse).collect()
        };
        let own = log_p(x);
        let mean = own.iter().sum::<f64>() / vocab as f64;
        sums[0] -= (1.0 - smoothing) * own[label as usize] + smoothing * mean;
        sums[1] += (x[0] - own[0]).powi(2);
        if let Some(teacher) = teacher {
            let over = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x / t).collect() };
            let theirs = log_p(&over(&teacher[token * vocab..(token + 1) * vocab]));
            let mine = log_p(&over(x));
            sums[2] -= theirs.iter().zip(mine).map(|(q, p)| q.exp() * p).sum::<f64>() * t * t;
        }
    }
    sums
}
