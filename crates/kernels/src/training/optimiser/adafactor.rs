//! Adafactor as `transformers.optimization.Adafactor` does it.

use super::{check_lengths, sum_in_parts, sum_of_squares, GRAIN};
use crate::error::{expect_len, product, KernelError};
use crate::parallel::{self, Disjoint};
use crate::scratch::{self, Scratch};
use crate::simd::{self, Op, Simd};
use std::ops::Range;

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
    let numbers = Numbers {
        keep: beta2 as f32,
        rest: (1.0 - beta2) as f32,
        eps: options.eps1 as f32,
        scale: options.gradient_scale,
    };
    if factored {
        numbers.moments(rows, cols, g, state)?;
    } else {
        let full = Disjoint::new(&mut state.full);
        parallel::for_each_range(len, GRAIN, |range| {
            // SAFETY: ranges do not overlap.
            let full = unsafe { full.slice(range.clone()) };
            simd::run(Moment { full, g: &g[range], numbers });
        });
    }
    let update = Update::new(g, cols, factored.then_some(&*state), &state.full, options.gradient_scale)?;
    let size = (sum_in_parts(len, |range| simd::run(Size { update: &update, range })) / len as f64).sqrt();
    let factor = (rate / (size / options.clip_threshold).max(1.0)) as f32;
    let shrink = 1.0 - (options.weight_decay * rate) as f32;
    let (p, m) = (Disjoint::new(p), Disjoint::new(&mut state.m));
    let beta1 = options.beta1.map(|beta1| (beta1 as f32, (1.0 - beta1) as f32));
    parallel::for_each_range(len, GRAIN, |range| {
        // SAFETY: ranges do not overlap.
        let (p, m) = unsafe { (p.slice(range.clone()), m.slice(if beta1.is_some() { range.clone() } else { 0..0 })) };
        simd::run(Apply { update: &update, first: range.start, p, m, beta1, factor, shrink });
    });
    Ok(())
}

/// What all elements share when moments are updated.
#[derive(Clone, Copy)]
struct Numbers {
    keep: f32,
    rest: f32,
    eps: f32,
    scale: f32,
}

/// Rows whose columns' sums are added together first: part of the numerical definition.
const ROWS: usize = 256;

impl Numbers {
    #[inline(always)]
    fn square(&self, g: f32) -> f32 {
        let g = g * self.scale;
        g * g + self.eps
    }

    /// Updates the row and column moments.
    fn moments(&self, rows: usize, cols: usize, g: &[f32], state: &mut AdafactorState) -> Result<(), KernelError> {
        let parts = rows.div_ceil(ROWS);
        let mut columns = scratch::take("sums of columns", product("sums of columns", parts, cols)?)?;
        let (sums, row) = (Disjoint::new(&mut columns), Disjoint::new(&mut state.row));
        parallel::for_each_task(parts, |part| {
            let range = part * ROWS..((part + 1) * ROWS).min(rows);
            // SAFETY: parts do not overlap.
            let (sums, row) = unsafe { (sums.slice(part * cols..(part + 1) * cols), row.slice(range.clone())) };
            simd::run(Sums { numbers: *self, g: &g[range.start * cols..range.end * cols], row, sums });
        });
        let col = Disjoint::new(&mut state.col);
        let columns = &columns[..];
        parallel::for_each_range(cols, GRAIN.div_ceil(parts), |range| {
            // SAFETY: ranges do not overlap.
            for (column, col) in range.clone().zip(unsafe { col.slice(range) }) {
                let sum: f64 = columns.iter().skip(column).step_by(cols).map(|&x| f64::from(x)).sum();
                *col = *col * self.keep + (sum / rows as f64) as f32 * self.rest;
            }
        });
        Ok(())
    }
}

/// Moments of some rows, and the sums of their columns.
struct Sums<'a> {
    numbers: Numbers,
    g: &'a [f32],
    row: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Op for Sums<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { numbers, g, row, sums } = self;
        let cols = sums.len();
        sums.fill(0.0);
        for (row, g) in row.iter_mut().zip(g.chunks_exact(cols)) {
            let mut total = 0f64;
            for (sums, g) in sums.chunks_mut(4096).zip(g.chunks(4096)) {
                let mut lanes = [0f32; 16];
                for (sums, g) in sums.chunks_mut(16).zip(g.chunks(16)) {
                    for ((sum, &g), lane) in sums.iter_mut().zip(g).zip(&mut lanes) {
                        let square = numbers.square(g);
                        *sum += square;
                        *lane += square;
                    }
                }
                total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
            }
            *row = *row * numbers.keep + (total / cols as f64) as f32 * numbers.rest;
        }
    }
}

/// Whole second moments.
struct Moment<'a> {
    full: &'a mut [f32],
    g: &'a [f32],
    numbers: Numbers,
}

impl Op for Moment<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (full, &g) in self.full.iter_mut().zip(self.g) {
            *full = *full * self.numbers.keep + self.numbers.square(g) * self.numbers.rest;
        }
    }
}

/// The update before it is clipped, never stored: gradients over the root of their second moments.
struct Update<'a> {
    g: &'a [f32],
    scale: f32,
    cols: usize,
    /// 1 over the roots of row and column moments, the former relative to their mean; or the whole moments.
    factors: Result<(Scratch, Scratch), &'a [f32]>,
}

impl<'a> Update<'a> {
    fn new(
        g: &'a [f32],
        cols: usize,
        factored: Option<&AdafactorState>,
        full: &'a [f32],
        scale: f32,
    ) -> Result<Self, KernelError> {
        let factors = match factored {
            Some(state) => {
                let mut row = scratch::take("row factors", state.row.len())?;
                let mut col = scratch::take("column factors", cols)?;
                let mean = state.row.iter().map(|&x| f64::from(x)).sum::<f64>() / state.row.len().max(1) as f64;
                for (to, x) in row.iter_mut().zip(&state.row) {
                    *to = 1.0 / (x / mean as f32).sqrt();
                }
                for (to, x) in col.iter_mut().zip(&state.col) {
                    *to = 1.0 / x.sqrt();
                }
                Ok((row, col))
            }
            None => Err(full),
        };
        Ok(Self { g, scale, cols, factors })
    }

    /// Calls `f` with each place of `range`, counted from its start, and the update there.
    #[inline(always)]
    fn each(&self, range: Range<usize>, mut f: impl FnMut(usize, f32)) {
        match &self.factors {
            Ok((row, col)) => {
                let mut start = range.start;
                while start < range.end {
                    let (line, column) = (start / self.cols, start % self.cols);
                    let end = range.end.min((line + 1) * self.cols);
                    let (factor, first) = (row[line], start - range.start);
                    let factor = factor * self.scale;
                    for (i, (g, col)) in self.g[start..end].iter().zip(&col[column..]).enumerate() {
                        f(first + i, factor * col * g);
                    }
                    start = end;
                }
            }
            Err(full) => {
                for (i, (g, full)) in self.g[range.clone()].iter().zip(&full[range]).enumerate() {
                    f(i, g * self.scale / full.sqrt());
                }
            }
        }
    }
}

/// The sum of squares of some of an update.
struct Size<'a> {
    update: &'a Update<'a>,
    range: Range<usize>,
}

impl Op for Size<'_> {
    type Out = f64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let mut total = 0f64;
        for start in self.range.clone().step_by(1024) {
            let mut lanes = [0f32; 16];
            self.update.each(start..(start + 1024).min(self.range.end), |i, x| lanes[i % 16] += x * x);
            total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        total
    }
}

/// The step of some elements.
struct Apply<'a> {
    update: &'a Update<'a>,
    first: usize,
    p: &'a mut [f32],
    /// Empty without a first moment.
    m: &'a mut [f32],
    /// What stays of the first moment, and what comes.
    beta1: Option<(f32, f32)>,
    factor: f32,
    shrink: f32,
}

impl Op for Apply<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { update, first, p, m, beta1, factor, shrink } = self;
        let range = first..first + p.len();
        match beta1 {
            Some((keep, rest)) => update.each(range, |i, x| {
                m[i] = m[i] * keep + x * factor * rest;
                p[i] = p[i] * shrink - m[i];
            }),
            None => update.each(range, |i, x| p[i] = p[i] * shrink - x * factor),
        }
    }
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
