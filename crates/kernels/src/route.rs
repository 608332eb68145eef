//! Top-1 routing: which expert takes each token, and what is left out when an expert is full.

use crate::error::{expect_len, product, KernelError};
use half::{bf16, f16};

/// Where each token goes, `[groups * tokens]` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// The expert that computes the token; -1 when it is dropped or padding.
    pub expert: Vec<i32>,
    /// The token's place in that expert's buffer, counted per group; -1 likewise.
    pub slot: Vec<i32>,
    /// What the expert's output is multiplied by: the probability of the chosen expert. For dropped tokens see
    /// [`RouteOptions::zero_dropped`].
    pub weight: Vec<f32>,
}

/// The type in which the router's probabilities are kept; they are rounded to it before the largest is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rounding {
    #[default]
    None,
    F16,
    Bf16,
}

/// How tokens are given to experts. The default is dropless.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// Tokens that an expert takes per group; `None`: as many as come.
    pub capacity: Option<usize>,
    /// A full expert keeps the tokens with the highest probability rather than the first ones.
    pub batch_prioritized: bool,
    /// Tokens whose padding mask is 0 go nowhere and take no place.
    pub ignore_padding: bool,
    /// A dropped token's weight is 0 rather than the probability of the expert it would have gone to.
    pub zero_dropped: bool,
    /// The router's type (`router_dtype`).
    pub rounding: Rounding,
}

impl RouteOptions {
    /// As `transformers` routes: `capacity` tokens per expert and row, in order of position.
    pub fn reference(capacity: usize) -> Self {
        Self { capacity: Some(capacity), ..Self::default() }
    }

    /// Every token goes to the expert it chose.
    pub fn dropless() -> Self {
        Self::default()
    }

    /// As the original implementation (flaxformer's `TokensChooseMaskedRouter`) routes: a capacity per group, padding
    /// left out, and by option the most probable tokens first.
    pub fn original(capacity: usize, batch_prioritized: bool) -> Self {
        Self {
            capacity: Some(capacity),
            batch_prioritized,
            ignore_padding: true,
            zero_dropped: true,
            rounding: Rounding::None,
        }
    }
}

/// Routes each token to its most probable expert, the lowest index first among equals.
///
/// `logits` is `[groups, tokens, experts]`; capacity is counted per group. `padding_mask` is `[groups, tokens]` with 0
/// for padding, and is used only with [`RouteOptions::ignore_padding`]; padding gets weight 0. NaN logits count as the
/// largest, as in the reference.
pub fn route_top1(
    logits: &[f32],
    groups: usize,
    tokens: usize,
    experts: usize,
    padding_mask: Option<&[u8]>,
    options: &RouteOptions,
) -> Result<Routes, KernelError> {
    if experts == 0 || i32::try_from(experts).is_err() {
        return Err(KernelError::Dimension { what: "experts", expected: "1 to 2147483647", found: experts });
    }
    if i32::try_from(tokens).is_err() {
        return Err(KernelError::Dimension { what: "tokens per group", expected: "at most 2147483647", found: tokens });
    }
    let total = product("routed tokens", groups, tokens)?;
    expect_len("router logits", logits.len(), product("router logits", total, experts)?)?;
    if let Some(mask) = padding_mask {
        expect_len("padding mask elements", mask.len(), total)?;
    }
    let mask = padding_mask.filter(|_| options.ignore_padding);
    let mut routes =
        Routes { expert: Vec::with_capacity(total), slot: vec![-1; total], weight: Vec::with_capacity(total) };
    let mut probabilities = vec![0.0; experts];
    for (token, logits) in logits.chunks_exact(experts).enumerate() {
        if mask.is_some_and(|mask| mask[token] == 0) {
            routes.expert.push(-1);
            routes.weight.push(0.0);
            continue;
        }
        let (expert, probability) = choose(logits, options.rounding, &mut probabilities);
        routes.expert.push(expert as i32);
        routes.weight.push(probability);
    }
    if tokens > 0 {
        let mut taken = vec![0usize; experts];
        for group in 0..groups {
            taken.fill(0);
            fill_experts(&mut routes, group * tokens, tokens, options, &mut taken);
        }
    }
    Ok(routes)
}

/// The most probable expert and its probability.
fn choose(logits: &[f32], rounding: Rounding, probabilities: &mut [f32]) -> (usize, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for (p, &logit) in probabilities.iter_mut().zip(logits) {
        // Through f64, so that every platform rounds alike: a decision must not hang on a libm.
        *p = f64::from(logit - max).exp() as f32;
        sum += *p;
    }
    let (mut best, mut best_p) = (0, f32::NEG_INFINITY);
    for (i, p) in probabilities.iter().enumerate() {
        let p = match rounding {
            Rounding::None => p / sum,
            Rounding::F16 => f16::from_f32(p / sum).to_f32(),
            Rounding::Bf16 => bf16::from_f32(p / sum).to_f32(),
        };
        if p > best_p || (p.is_nan() && !best_p.is_nan()) {
            (best, best_p) = (i, p);
        }
    }
    (best, best_p)
}

/// Gives the tokens of one group their slots, in order, and drops those past the capacity.
fn fill_experts(routes: &mut Routes, first: usize, tokens: usize, options: &RouteOptions, taken: &mut [usize]) {
    let capacity = options.capacity.unwrap_or(usize::MAX);
    let Routes { expert: experts, slot: slots, weight: weights } = routes;
    let mut place = |token: usize, weights: &mut [f32]| {
        // A negative expert is padding.
        let Ok(expert) = usize::try_from(experts[token]) else { return };
        if taken[expert] < capacity {
            slots[token] = taken[expert] as i32;
            taken[expert] += 1;
        } else {
            experts[token] = -1;
            if options.zero_dropped {
                weights[token] = 0.0;
            }
        }
    };
    if options.batch_prioritized {
        let mut order: Vec<(usize, f32)> = (first..first + tokens).map(|token| (token, weights[token])).collect();
        // Stable, so position decides among equals; NaN last.
        order.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
        order.into_iter().for_each(|(token, _)| place(token, weights));
    } else {
        (first..first + tokens).for_each(|token| place(token, weights));
    }
}
