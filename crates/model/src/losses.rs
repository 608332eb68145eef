//! Cross entropy and the router's two losses, as the reference computes them.

use candle_core::Tensor;

use crate::error::{ModelError, Result};

/// Labels with this value take no part (reference: `CrossEntropyLoss(ignore_index=-100)`).
pub const IGNORE_INDEX: i64 = -100;

/// The log-probability of each label under `logits` `[tokens, vocab_size]`; 0 for ignored ones.
pub fn token_log_probs(logits: &[f32], vocab_size: usize, labels: &[i64]) -> Result<Vec<f32>> {
    if vocab_size == 0 || logits.len() != labels.len().saturating_mul(vocab_size) {
        let message = format!("found {} labels for {} logits of {vocab_size} classes", labels.len(), logits.len());
        return Err(ModelError::input(message));
    }
    let mut log_probs = Vec::with_capacity(labels.len());
    for (row, &label) in logits.chunks_exact(vocab_size).zip(labels) {
        if label == IGNORE_INDEX {
            log_probs.push(0.0);
            continue;
        }
        let Some(&target) = usize::try_from(label).ok().and_then(|at| row.get(at)) else {
            let message = format!("found label {label}, expected {IGNORE_INDEX} or an id from 0 to {}", vocab_size - 1);
            return Err(ModelError::input(message));
        };
        log_probs.push((f64::from(target) - log_sum_exp(row)) as f32);
    }
    Ok(log_probs)
}

/// Mean negative log-likelihood of the labels that count; NaN where none does.
pub fn cross_entropy(log_probs: &[f32], labels: &[i64]) -> f32 {
    let counted = log_probs.iter().zip(labels).filter(|(_, label)| **label != IGNORE_INDEX);
    let (sum, count) = counted.fold((0f64, 0u64), |(sum, n), (p, _)| (sum - f64::from(*p), n + 1));
    (sum / count as f64) as f32
}

/// Losses of one stack's routers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RouterLosses {
    /// Mean of `logsumexp²` over all tokens of all sparse layers (reference: `router_z_loss_func`).
    pub z_loss: f32,
    /// `E² · mean over (row, expert) of (share of tokens · mean probability)`, the layers of a row taken together
    /// (reference: `load_balancing_loss_func`, equations 4–6 of the paper).
    pub aux_loss: f32,
}

/// From each sparse layer's router logits `[tokens, experts]`, `batch` rows of equal length. The reference counts them
/// only where the stack's sparse step is above 1, and so does this.
pub fn router_losses(router_logits: &[Tensor], batch: usize, sparse_step: usize) -> Result<RouterLosses> {
    if sparse_step <= 1 || router_logits.is_empty() || batch == 0 {
        return Ok(RouterLosses::default());
    }
    let mut experts = 0;
    let mut tokens_per_row = 0;
    let mut z_sum = 0f64;
    let mut chosen: Vec<f64> = Vec::new();
    let mut probability: Vec<f64> = Vec::new();
    for logits in router_logits {
        let (tokens, e) = logits.dims2()?;
        if experts == 0 {
            experts = e;
            chosen = vec![0.0; batch * e];
            probability = vec![0.0; batch * e];
        }
        let len = tokens / batch;
        tokens_per_row += len;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let mut p = vec![0f64; e];
        for (token, row) in values.chunks_exact(e).enumerate() {
            let group = token / len.max(1) * e;
            let log_z = softmax(row, &mut p);
            z_sum += log_z * log_z;
            let mut best = 0;
            for (i, logit) in row.iter().enumerate() {
                probability[group + i] += p[i];
                if *logit > row[best] {
                    best = i;
                }
            }
            chosen[group + best] += 1.0;
        }
    }
    let n = tokens_per_row as f64;
    let mean: f64 =
        chosen.iter().zip(&probability).map(|(c, p)| (c / n) * (p / n)).sum::<f64>() / (batch * experts) as f64;
    Ok(RouterLosses {
        z_loss: (z_sum / (n * batch as f64)) as f32,
        aux_loss: (mean * (experts * experts) as f64) as f32,
    })
}

/// Gradients of `z_coef · z_loss + aux_coef · aux_loss` ([`router_losses`]) with respect to each layer's logits. The share
/// of tokens is a count and has none (equation 4 of the paper).
pub fn router_loss_gradients(
    router_logits: &[Tensor],
    batch: usize,
    sparse_step: usize,
    z_coef: f64,
    aux_coef: f64,
) -> Result<Vec<Vec<f32>>> {
    if sparse_step <= 1 || batch == 0 || (z_coef == 0.0 && aux_coef == 0.0) {
        return Ok(Vec::new());
    }
    let layers = router_logits
        .iter()
        .map(|logits| Ok((logits.dims2()?, logits.flatten_all()?.to_vec1::<f32>()?)))
        .collect::<Result<Vec<_>>>()?;
    let Some(((_, experts), _)) = layers.first() else { return Ok(Vec::new()) };
    let experts = (*experts).max(1);
    let tokens_per_row: usize = layers.iter().map(|((tokens, _), _)| tokens / batch).sum();
    let mut chosen = vec![0f64; batch * experts];
    for ((tokens, _), values) in &layers {
        let len = (tokens / batch).max(1);
        for (token, row) in values.chunks_exact(experts).enumerate() {
            let mut best = 0;
            for (i, logit) in row.iter().enumerate() {
                if *logit > row[best] {
                    best = i;
                }
            }
            chosen[token / len * experts + best] += 1.0;
        }
    }
    let n = tokens_per_row as f64;
    let z_each = 2.0 * z_coef / (n * batch as f64);
    // d aux / d p[row, e] of one token: E² · share[row, e] / (batch · E · n).
    let aux_each = aux_coef * experts as f64 / (batch as f64 * n * n);
    Ok(layers
        .iter()
        .map(|((tokens, _), values)| {
            let len = (tokens / batch).max(1);
            let mut gradient = Vec::with_capacity(values.len());
            let mut p = vec![0f64; experts];
            for (token, row) in values.chunks_exact(experts).enumerate() {
                let share = &chosen[token / len * experts..][..experts];
                let log_z = softmax(row, &mut p);
                let mean: f64 = p.iter().zip(share).map(|(p, share)| p * share).sum();
                let each = p.iter().zip(share);
                gradient.extend(each.map(|(p, share)| (p * (z_each * log_z + aux_each * (share - mean))) as f32));
            }
            gradient
        })
        .collect())
}

/// Writes the softmax of a row to `p`, and returns the logarithm of its sum of exponentials.
fn softmax(row: &[f32], p: &mut [f64]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    for (p, logit) in p.iter_mut().zip(row) {
        *p = (f64::from(*logit) - f64::from(max)).exp();
        sum += *p;
    }
    p.iter_mut().for_each(|p| *p /= sum);
    match max.is_finite() {
        true => f64::from(max) + sum.ln(),
        // Infinite logits have an infinite loss.
        false => f64::from(max),
    }
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::from(max);
    }
    let sum: f64 = row.iter().map(|x| (f64::from(*x) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}
