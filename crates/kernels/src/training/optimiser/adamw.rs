//! AdamW as `torch.optim.AdamW` does it.

use super::{check_lengths, GRAIN};
use crate::error::KernelError;
use crate::parallel::{self, Disjoint};
use crate::simd::{self, Op, Simd};

/// One step's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decoupled: parameters shrink by `learning_rate · weight_decay` of themselves.
    pub weight_decay: f64,
    /// Counted from 1.
    pub step: u64,
    /// What gradients are multiplied by first; for clipping and for loss scales.
    pub gradient_scale: f32,
}

/// One step over a parameter `p` with gradient `g`, first moment `m` and second moment `v`, both 0 at the start.
pub fn adamw_step(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], options: &AdamW) -> Result<(), KernelError> {
    check_lengths(p.len(), &[("gradient elements", g.len()), ("first moments", m.len()), ("second moments", v.len())])?;
    let step = options.step.max(1) as f64;
    let (correction1, correction2) = (1.0 - options.beta1.powf(step), 1.0 - options.beta2.powf(step));
    let numbers = Numbers {
        keep: (1.0 - options.learning_rate * options.weight_decay) as f32,
        beta1: options.beta1 as f32,
        rest1: (1.0 - options.beta1) as f32,
        beta2: options.beta2 as f32,
        rest2: (1.0 - options.beta2) as f32,
        rate: (options.learning_rate / correction1) as f32,
        root: (1.0 / correction2.sqrt()) as f32,
        eps: options.eps as f32,
        scale: options.gradient_scale,
    };
    let (p, m, v) = (Disjoint::new(p), Disjoint::new(m), Disjoint::new(v));
    parallel::for_each_range(g.len(), GRAIN, |range| {
        // SAFETY: ranges do not overlap.
        let (p, m, v) = unsafe { (p.slice(range.clone()), m.slice(range.clone()), v.slice(range.clone())) };
        simd::run(Step { p, g: &g[range], m, v, numbers });
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Numbers {
    keep: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    root: f32,
    eps: f32,
    scale: f32,
}

struct Step<'a> {
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    numbers: Numbers,
}

impl Op for Step<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { p, g, m, v, numbers: n } = self;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * n.scale;
            *m = *m * n.beta1 + g * n.rest1;
            *v = *v * n.beta2 + g * g * n.rest2;
            *p = *p * n.keep - n.rate * (*m / (v.sqrt() * n.root + n.eps));
        }
    }
}
