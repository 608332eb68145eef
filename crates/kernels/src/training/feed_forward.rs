//! The dense feed-forward layer in training.

use super::derivative::{self, Back};
use super::dropout::Dropout;
use super::linear::{linear_backward_input, linear_train};
use crate::activation::{activate_serial, Activation};
use crate::error::{expect_len, product, KernelError};
use crate::experts::ExpertWeights;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::scratch;

/// Which of a feed-forward layer's matrices a gradient belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardPart {
    /// `wi`; gated, the checkpoint's `wi_0`.
    Wi,
    /// The gate's, `wi_1`.
    Wi1,
    Wo,
}

/// Takes the gradient of a matrix as its two factors: `(part, dy, x, m)` stands for `dw += dyᵀ · x` with `dy [m, out
/// features]` and `x [m, in features]`; see [`super::linear_backward_weight`].
pub type FeedForwardSink<'a> = dyn FnMut(FeedForwardPart, &[f32], &[f32], usize) -> Result<(), KernelError> + 'a;

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 8 * 1024;

/// Tokens of a layer, numbered for dropout.
#[derive(Clone, Copy)]
pub(super) enum Tokens<'a> {
    /// Row `i` is token `i`.
    All,
    /// Row `i` is the token of the i-th pair (expert, token).
    Sorted(&'a [(usize, usize)]),
}

impl Tokens<'_> {
    fn number(&self, row: usize) -> usize {
        match self {
            Self::All => row,
            Self::Sorted(tokens) => tokens[row].1,
        }
    }
}

/// What all rows of a feed-forward layer share.
#[derive(Clone, Copy)]
pub(super) struct Inner<'a> {
    pub act: Activation,
    pub dropout: &'a Dropout,
    pub tokens: Tokens<'a>,
    pub d_ff: usize,
}

impl Inner<'_> {
    /// `to = dropout(act(hidden) ∘ gate)`, rows of `d_ff`.
    pub fn activate(&self, hidden: &[f32], gate: Option<&[f32]>, to: &mut [f32]) {
        let d_ff = self.d_ff.max(1);
        parallel::for_each_row_chunk(to, d_ff, GRAIN.div_ceil(d_ff), |first, to| {
            // Row by row, which stay in the L1 cache.
            for (row, to) in to.chunks_exact_mut(d_ff).enumerate() {
                let range = (first + row) * d_ff..(first + row + 1) * d_ff;
                to.copy_from_slice(&hidden[range.clone()]);
                activate_serial(self.act, to);
                if let Some(gate) = gate {
                    for (to, gate) in to.iter_mut().zip(&gate[range]) {
                        *to *= gate;
                    }
                }
                self.drop(first + row, to);
            }
        });
    }

    /// The way back through [`Self::activate`]: `d` holds the gradient of its result and then that of `hidden`; `dgate`
    /// gets that of the gate.
    pub fn back(&self, hidden: &[f32], gate: Option<&[f32]>, d: &mut [f32], dgate: &mut [f32]) {
        let d_ff = self.d_ff.max(1);
        let dgate = Disjoint::new(dgate);
        parallel::for_each_row_chunk(d, d_ff, GRAIN.div_ceil(d_ff), |first, d| {
            let range = first * d_ff..first * d_ff + d.len();
            self.drop(first, d);
            // SAFETY: chunks do not overlap.
            let dgate = unsafe { dgate.slice(if gate.is_some() { range.clone() } else { 0..0 }) };
            let gate = gate.map(|gate| &gate[range.clone()]);
            derivative::backward(self.act, Back { x: &hidden[range], gate, dx: d, dgate });
        });
    }

    fn drop(&self, first: usize, rows: &mut [f32]) {
        if self.dropout.is_none() {
            return;
        }
        for (i, row) in rows.chunks_exact_mut(self.d_ff.max(1)).enumerate() {
            let number = self.tokens.number(first + i) as u64;
            self.dropout.apply(number.wrapping_mul(self.d_ff as u64), row);
        }
    }
}

/// Makes `hidden` hold `len` elements; their contents are unspecified.
pub(super) fn resize(hidden: &mut Vec<f32>, len: usize) -> Result<(), KernelError> {
    if let Some(more) = len.checked_sub(hidden.len()) {
        let what = "feed-forward hidden states";
        hidden.try_reserve_exact(more).map_err(|_| KernelError::TooLarge { what })?;
    }
    hidden.resize(len, 0.0);
    Ok(())
}

/// Elements of what [`feed_forward_train`] keeps for `rows` rows.
pub(super) fn hidden_len(rows: usize, d_ff: usize, gated: bool) -> Result<usize, KernelError> {
    let what = "feed-forward hidden states";
    product(what, product(what, rows, d_ff)?, if gated { 2 } else { 1 })
}

/// [`crate::feed_forward_with`] in training: `out = dropout(act(x · wiᵀ)) · woᵀ`, or, gated, `dropout(act(x · wiᵀ) ∘ (x ·
/// wi_1ᵀ)) · woᵀ`, for `x` and `out` of `[n, d]`.
///
/// `hidden` becomes `[n, d_ff]`, `x · wiᵀ`; gated it is followed by `x · wi_1ᵀ`. Dropout numbers element `j` of token `t`
/// `t * d_ff + j`.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn feed_forward_train(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    weights: &ExpertWeights<'_>,
    act: Activation,
    dropout: &Dropout,
    hidden: &mut Vec<f32>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    check(x, n, d, weights)?;
    expect_len("feed-forward output elements", out.len(), x.len())?;
    let d_ff = weights.wi.rows;
    resize(hidden, hidden_len(n, d_ff, weights.wi_1.is_some())?)?;
    let inner = Inner { act, dropout, tokens: Tokens::All, d_ff };
    let (wi, wi_1) = hidden.split_at_mut(n * d_ff);
    forward_rows(precision, x, n, weights, &inner, wi, wi_1, out)
}

pub(super) fn check(x: &[f32], n: usize, d: usize, weights: &ExpertWeights<'_>) -> Result<(), KernelError> {
    expect_len("feed-forward input elements", x.len(), product("feed-forward input", n, d)?)?;
    check_weights(weights, d)
}

pub(super) fn check_weights(weights: &ExpertWeights<'_>, d: usize) -> Result<(), KernelError> {
    weights.wi.check()?;
    weights.wo.check()?;
    expect_len("columns of wi", weights.wi.cols, d)?;
    expect_len("rows of wo", weights.wo.rows, d)?;
    expect_len("columns of wo", weights.wo.cols, weights.wi.rows)?;
    if let Some(wi_1) = &weights.wi_1 {
        wi_1.check()?;
        expect_len("columns of wi_1", wi_1.cols, d)?;
        expect_len("rows of wi_1", wi_1.rows, weights.wi.rows)?;
    }
    Ok(())
}

/// The forward of some rows; shapes have been checked.
#[allow(clippy::too_many_arguments)] // All are needed.
pub(super) fn forward_rows(
    precision: Precision,
    x: &[f32],
    n: usize,
    weights: &ExpertWeights<'_>,
    inner: &Inner<'_>,
    wi: &mut [f32],
    wi_1: &mut [f32],
    out: &mut [f32],
) -> Result<(), KernelError> {
    linear_train(precision, x, n, weights.wi, wi)?;
    if let Some(weights) = weights.wi_1 {
        linear_train(precision, x, n, weights, wi_1)?;
    }
    let mut activated = scratch::take("feed-forward hidden states", wi.len())?;
    inner.activate(wi, weights.wi_1.map(|_| &*wi_1), &mut activated);
    linear_train(precision, &activated, n, weights.wo, out)
}

/// The way back through [`feed_forward_train`], from `dy [n, d]` and what that kept.
///
/// `sink` is called once with each matrix's gradient; its errors are returned. `dx` is overwritten.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn feed_forward_backward(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    weights: &ExpertWeights<'_>,
    act: Activation,
    dropout: &Dropout,
    hidden: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    sink: &mut FeedForwardSink<'_>,
) -> Result<(), KernelError> {
    check(x, n, d, weights)?;
    let d_ff = weights.wi.rows;
    let gated = weights.wi_1.is_some();
    expect_len("feed-forward hidden states", hidden.len(), hidden_len(n, d_ff, gated)?)?;
    expect_len("feed-forward output gradient elements", dy.len(), x.len())?;
    if let Some(dx) = &dx {
        expect_len("feed-forward input gradient elements", dx.len(), x.len())?;
    }
    let inner = Inner { act, dropout, tokens: Tokens::All, d_ff };
    let (wi, gate) = hidden.split_at(n * d_ff);
    let gate = gated.then_some(gate);
    let mut inside = scratch::take("feed-forward hidden states", wi.len())?;
    inner.activate(wi, gate, &mut inside);
    sink(FeedForwardPart::Wo, dy, &inside, n)?;
    linear_backward_input(precision, dy, n, weights.wo, &mut inside)?;
    back_to_input(precision, x, n, weights, &inner, wi, gate, &mut inside, dx, sink)
}

/// The way back from the gradient of the activated hidden states, `inside`, to the input.
#[allow(clippy::too_many_arguments)] // All are needed.
pub(super) fn back_to_input(
    precision: Precision,
    x: &[f32],
    n: usize,
    weights: &ExpertWeights<'_>,
    inner: &Inner<'_>,
    wi: &[f32],
    gate: Option<&[f32]>,
    inside: &mut [f32],
    dx: Option<&mut [f32]>,
    sink: &mut FeedForwardSink<'_>,
) -> Result<(), KernelError> {
    let mut dgate = scratch::take("gradients of feed-forward gates", if gate.is_some() { inside.len() } else { 0 })?;
    inner.back(wi, gate, inside, &mut dgate);
    sink(FeedForwardPart::Wi, inside, x, n)?;
    if gate.is_some() {
        sink(FeedForwardPart::Wi1, &dgate, x, n)?;
    }
    let Some(dx) = dx else { return Ok(()) };
    linear_backward_input(precision, inside, n, weights.wi, dx)?;
    if let Some(wi_1) = weights.wi_1 {
        let mut more = scratch::take("gradients through feed-forward gates", dx.len())?;
        linear_backward_input(precision, &dgate, n, wi_1, &mut more)?;
        parallel::for_each_row_chunk(dx, 1, GRAIN, |first, dx| {
            for (dx, more) in dx.iter_mut().zip(&more[first..]) {
                *dx += more;
            }
        });
    }
    Ok(())
}
