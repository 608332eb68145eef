//! Adafactor as `transformers.optimization.Adafactor` does it.

use super::{check_lengths, sum_of_squares};
use crate::error::{expect_len, product, KernelError};

/// What does not change from step to step. The default is the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adafactor {
    /// `None`: relative to the step, `min(1e-2, 1 / √step)`.
    pub learning_rate: Option<f64>,
    /// Added to squared gradients.
    pub eps1: f64,
    /// The least size of a parameter that its steps are relative to.
    pub eps2: f64,
    /// Updates with a greater root mean square are scaled down to it.
    pub clip_threshold: f64,
    /// The second moment's decay is `1 - step^decay_rate`.
    pub decay_rate: f64,
    /// Decay of the first moment; `None`: none is kept.
    pub beta1: Option<f64>,
    pub weight_decay: f64,
    /// Whether steps are relative to the root mean square of the parameter.
    pub scale_parameter: bool,
    /// With the relative learning rate: `min(1e-6 · step, 1 / √step)`.
    pub warmup_init: bool,
    /// What gradients are multiplied by first; for clipping and for loss scales.
    pub gradient_scale: f32,
}

impl Default for Adafactor {
    fn default() -> Self {
        Self {
            learning_rate: None,
            eps1: 1e-30,
            eps2: 1e-3,
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta1: None,
            weight_decay: 0.0,
            scale_parameter: true,
            warmup_init: false,
            gradient_scale: 1.0,
        }
    }
}

/// What a parameter keeps between steps. Vectors that are empty at the first step are made then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdafactorState {
    /// `[rows]`, factored: means of squared gradients over the columns.
    pub row: Vec<f32>,
    /// `[cols]`, factored: over the rows.
    pub col: Vec<f32>,
    /// `[rows * cols]`, otherwise.
    pub full: Vec<f32>,
    /// `[rows * cols]` with `beta1`: the first moment.
    pub m: Vec<f32>,
    /// Steps taken.
    pub step: u64,
    /// The parameter's root mean square before the last step.
    pub rms: f32,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// One step over a parameter `p [rows, cols]` with gradient `g`.
///
/// With `factored` the second moment is kept as a row and a column, as the reference does for tensors of two dimensions; without
/// it whole, as for vectors, for which `rows` is 1.
pub fn adafactor_step(
    p: &mut [f32],
    rows: usize,
    cols: usize,
    factored: bool,
    g: &[f32],
    state: &mut AdafactorState,
    options: &Adafactor,
) -> Result<(), KernelError> {
    let len = product("parameter", rows, cols)?;
    check_lengths(len, &[("parameter elements", p.len()), ("gradient elements", g.len())])?;
    state.prepare(rows, cols, factored, options.beta1.is_some())?;
    if len == 0 {
        return Ok(());
    }
    state.step += 1;
    let rms = (sum_of_squares(p) / len as f64).sqrt();
    state.rms = rms as f32;
    let step = state.step as f64;
    let rate = options.learning_rate.unwrap_or_else(|| {
        let least = if options.warmup_init { 1e-6 * step } else { 1e-2 };
        least.min(1.0 / step.sqrt())
    });
    let rate = rate * if options.scale_parameter { options.eps2.max(f64::from(state.rms)) } else { 1.0 };
    state.learning_rate = rate;
    let beta2 = 1.0 - step.powf(options.decay_rate);
    let mut update = vec![0f32; len];
    let (keep, rest) = (beta2 as f32, (1.0 - beta2) as f32);
    let square = |g: f32| {
        let g = g * options.gradient_scale;
        g * g + options.eps1 as f32
    };
    if factored {
        let mut columns = vec![0f64; cols];
        for (row, g) in state.row.iter_mut().zip(g.chunks_exact(cols)) {
            let mut sum = 0f64;
            for (column, &g) in columns.iter_mut().zip(g) {
                let square = f64::from(square(g));
                sum += square;
                *column += square;
            }
            *row = *row * keep + (sum / cols as f64) as f32 * rest;
        }
        for (col, sum) in state.col.iter_mut().zip(columns) {
            *col = *col * keep + (sum / rows as f64) as f32 * rest;
        }
        let mean = state.row.iter().map(|&x| f64::from(x)).sum::<f64>() / rows as f64;
        let lines = update.chunks_exact_mut(cols).zip(g.chunks_exact(cols)).zip(&state.row);
        for ((update, g), row) in lines {
            let factor = 1.0 / (row / mean as f32).sqrt();
            for ((update, &g), col) in update.iter_mut().zip(g).zip(&state.col) {
                *update = factor * (1.0 / col.sqrt()) * (g * options.gradient_scale);
            }
        }
    } else {
        for ((update, &g), full) in update.iter_mut().zip(g).zip(&mut state.full) {
            *full = *full * keep + square(g) * rest;
            *update = 1.0 / full.sqrt() * (g * options.gradient_scale);
        }
    }
    let size = (sum_of_squares(&update) / len as f64).sqrt();
    let factor = (rate / (size / options.clip_threshold).max(1.0)) as f32;
    let shrink = 1.0 - (options.weight_decay * rate) as f32;
    match options.beta1 {
        Some(beta1) => {
            let (keep, rest) = (beta1 as f32, (1.0 - beta1) as f32);
            for ((p, m), update) in p.iter_mut().zip(&mut state.m).zip(update) {
                *m = *m * keep + update * factor * rest;
                *p = *p * shrink - *m;
            }
        }
        None => {
            for (p, update) in p.iter_mut().zip(update) {
                *p = *p * shrink - update * factor;
            }
        }
    }
    Ok(())
}

impl AdafactorState {
    /// Makes what is missing and checks the rest.
    pub fn prepare(&mut self, rows: usize, cols: usize, factored: bool, moment: bool) -> Result<(), KernelError> {
        let whole = product("parameter", rows, cols)?;
        let wanted = [
            ("row moments", &mut self.row, if factored { rows } else { 0 }),
            ("column moments", &mut self.col, if factored { cols } else { 0 }),
            ("second moments", &mut self.full, if factored { 0 } else { whole }),
            ("first moments", &mut self.m, if moment { whole } else { 0 }),
        ];
        for (what, have, len) in wanted {
            if self.step == 0 && have.is_empty() {
                have.resize(len, 0.0);
            }
            expect_len(what, have.len(), len)?;
        }
        Ok(())
    }
}
