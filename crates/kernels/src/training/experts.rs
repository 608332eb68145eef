//! The routed feed-forward layer in training: each expert over its own tokens. Experts that have no more of them than a
//! thread's share are computed side by side, each on one thread, which then waits for no other; the others one after another,
//! on all threads.

use super::dropout::Dropout;
use super::feed_forward::{
    back_to_input, check_weights, forward_rows, hidden_len, resize, FeedForwardPart, Inner, Tokens,
};
use super::linear::linear_backward_input;
use crate::activation::Activation;
use crate::error::{expect_len, product, KernelError};
use crate::experts::ExpertWeights;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::route::Routes;
use crate::scratch;
use crate::simd::{self, Op, Simd};
use std::sync::Mutex;

/// As [`super::FeedForwardSink`], with the number of the expert first; called from several threads.
pub type ExpertSink<'a> = dyn Fn(usize, FeedForwardPart, &[f32], &[f32], usize) -> Result<(), KernelError> + Sync + 'a;

/// An expert with the tokens that it has.
struct Group<'a, 'b> {
    /// Its first row among those of all experts.
    first: usize,
    tokens: &'b [(usize, usize)],
    weights: &'b ExpertWeights<'a>,
}

/// Tokens by expert, with what they share.
struct Sorted<'a> {
    /// (expert, token) of the tokens that go somewhere, by expert and then by position.
    tokens: Vec<(usize, usize)>,
    /// Weights of each expert that has tokens, in order.
    weights: Vec<ExpertWeights<'a>>,
    /// 0 without tokens.
    d_ff: usize,
    gated: bool,
}

type Expert<'a, 'b> = &'b (dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync);

impl<'a> Sorted<'a> {
    fn new(x: &[f32], n: usize, d: usize, routes: &Routes, expert: Expert<'a, '_>) -> Result<Self, KernelError> {
        expect_len("expert input elements", x.len(), product("expert input", n, d)?)?;
        expect_len("routed tokens", routes.expert.len(), n)?;
        expect_len("route weights", routes.weight.len(), n)?;
        let mut tokens = Vec::with_capacity(n);
        for (token, &expert) in routes.expert.iter().enumerate() {
            match usize::try_from(expert) {
                Ok(expert) => tokens.push((expert, token)),
                Err(_) if expert == -1 => {}
                Err(_) => return Err(KernelError::Route { token, expert }),
            }
        }
        tokens.sort_unstable();
        let mut weights: Vec<ExpertWeights<'a>> = Vec::new();
        for same in tokens.chunk_by(|a, b| a.0 == b.0) {
            let next = expert(same[0].0)?;
            check_weights(&next, d)?;
            if let Some(first) = weights.first() {
                expect_len("rows of wi", next.wi.rows, first.wi.rows)?;
                expect_len("gates of an expert", next.wi_1.iter().len(), first.wi_1.iter().len())?;
            }
            weights.push(next);
        }
        let d_ff = weights.first().map_or(0, |weights| weights.wi.rows);
        let gated = weights.first().is_some_and(|weights| weights.wi_1.is_some());
        Ok(Self { tokens, weights, d_ff, gated })
    }

    fn hidden_len(&self) -> Result<usize, KernelError> {
        hidden_len(self.tokens.len(), self.d_ff, self.gated)
    }

    fn groups(&self) -> Vec<Group<'a, '_>> {
        let mut first = 0;
        let groups = self.tokens.chunk_by(|a, b| a.0 == b.0).zip(&self.weights);
        groups
            .map(|(tokens, weights)| {
                let group = Group { first, tokens, weights };
                first += tokens.len();
                group
            })
            .collect()
    }

    /// Calls `f` with each expert. Returns one of its errors.
    fn each(&self, f: impl Fn(&Group<'a, '_>) -> Result<(), KernelError> + Sync) -> Result<(), KernelError> {
        let share = self.tokens.len() / (2 * parallel::threads());
        let (mut small, large): (Vec<_>, Vec<_>) = self.groups().into_iter().partition(|g| g.tokens.len() <= share);
        large.iter().try_for_each(&f)?;
        // The largest first, for an even end.
        small.sort_by_key(|group| std::cmp::Reverse(group.tokens.len()));
        let failure = Mutex::new(Ok(()));
        parallel::for_each_task(small.len(), |index| {
            let result = f(&small[index]);
            if result.is_err() {
                *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = result;
            }
        });
        failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// Copies the rows of tokens together.
fn gather(from: &[f32], d: usize, tokens: &[(usize, usize)], to: &mut [f32]) {
    let width = d.max(1);
    parallel::for_each_row_chunk(to, width, GRAIN.div_ceil(width), |first, to| {
        for (to, &(_, token)) in to.chunks_exact_mut(width).zip(&tokens[first..]) {
            to.copy_from_slice(&from[token * width..(token + 1) * width]);
        }
    });
}

/// Copies the rows of tokens back to their places, each times what `factor` gives for the token.
fn scatter(from: &[f32], d: usize, tokens: &[(usize, usize)], factor: impl Fn(usize) -> f32 + Sync, to: &Disjoint<'_>) {
    let width = d.max(1);
    parallel::for_each_range(from.len() / width, GRAIN.div_ceil(width), |rows| {
        for row in rows {
            let token = tokens[row].1;
            let factor = factor(token);
            // SAFETY: tokens have their own rows.
            let to = unsafe { to.slice(token * width..(token + 1) * width) };
            for (to, from) in to.iter_mut().zip(&from[row * width..(row + 1) * width]) {
                *to = from * factor;
            }
        }
    });
}

/// From the gradients of an expert's activated hidden states without the gate, `inside`, takes the gradients of the gates,
/// and then multiplies both gradients by the gates.
fn apply_gates(
    routes: &Routes,
    tokens: &[(usize, usize)],
    activated: &[f32],
    inside: &mut [f32],
    own_dy: &mut [f32],
    dgate: &Disjoint<'_>,
) -> Result<(), KernelError> {
    let (d_ff, d) = (inside.len() / tokens.len().max(1), own_dy.len() / tokens.len().max(1));
    let mut gradients = scratch::take("gradients of gates", tokens.len())?;
    let (to, inside, own_dy) = (Disjoint::new(&mut gradients), Disjoint::new(inside), Disjoint::new(own_dy));
    parallel::for_each_range(tokens.len(), GRAIN.div_ceil(d_ff + d + 1), |rows| {
        for row in rows {
            let weight = routes.weight[tokens[row].1];
            // SAFETY: rows do not overlap.
            let (to, inside, own_dy) = unsafe {
                let inside = inside.slice(row * d_ff..(row + 1) * d_ff);
                (to.slice(row..row + 1), inside, own_dy.slice(row * d..(row + 1) * d))
            };
            let activated = &activated[row * d_ff..(row + 1) * d_ff];
            to[0] = simd::run(Gate { weight, activated, inside, own_dy });
        }
    });
    for (gradient, &(_, token)) in gradients.iter().zip(tokens) {
        // SAFETY: tokens have their own elements.
        unsafe { dgate.slice(token..token + 1).fill(*gradient) };
    }
    Ok(())
}

/// [`crate::experts_with`] in training: `out[t] = routes.weight[t] · expert(x[t])`, 0 for tokens that go nowhere.
///
/// `hidden` becomes `[routed tokens, d_ff]`, what goes into the activation, tokens sorted by expert and then by position;
/// gated it is followed by as much for the gates. Dropout, inside of the experts, numbers element `j` of token `t` `t *
/// d_ff + j`. On error `hidden` and `out` are unspecified.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn experts_train<'a>(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    routes: &Routes,
    act: Activation,
    dropout: &Dropout,
    expert: &(dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync),
    hidden: &mut Vec<f32>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    expect_len("expert output elements", out.len(), x.len())?;
    let sorted = Sorted::new(x, n, d, routes, expert)?;
    resize(hidden, sorted.hidden_len()?)?;
    let d_ff = sorted.d_ff;
    let (wi, wi_1) = hidden.split_at_mut(sorted.tokens.len() * d_ff);
    out.fill(0.0);
    let (wi, wi_1, out) = (Disjoint::new(wi), Disjoint::new(wi_1), Disjoint::new(out));
    sorted.each(|&Group { first, tokens, weights }| {
        let (m, rows) = (tokens.len(), first * d_ff..(first + tokens.len()) * d_ff);
        let mut own = scratch::take("tokens of an expert", m * d)?;
        let mut results = scratch::take("results of an expert", m * d)?;
        gather(x, d, tokens, &mut own);
        let inner = Inner { act, dropout, tokens: Tokens::Sorted(tokens), d_ff };
        // SAFETY: experts have their own rows.
        let (wi, gate) = unsafe { (wi.slice(rows.clone()), wi_1.slice(if sorted.gated { rows } else { 0..0 })) };
        forward_rows(precision, &own, m, weights, &inner, wi, gate, &mut results)?;
        scatter(&results, d, tokens, |token| routes.weight[token], &out);
        Ok(())
    })
}

/// The way back through [`experts_train`], from `dy [n, d]` and what that kept.
///
/// `dx [n, d]` is overwritten, 0 for tokens that go nowhere; so is `dgate [n]`, the gradient of `routes.weight`: the dot
/// product of `dy[t]` and what the expert made of the token. `sink` is called as in [`super::feed_forward_backward`], for
/// each expert that has tokens, from several threads; the factor `dy` holds the gate. On error what has been written is
/// unspecified.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn experts_backward<'a>(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    routes: &Routes,
    act: Activation,
    dropout: &Dropout,
    expert: &(dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync),
    hidden: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgate: &mut [f32],
    sink: &ExpertSink<'_>,
) -> Result<(), KernelError> {
    expect_len("expert output gradient elements", dy.len(), x.len())?;
    expect_len("expert input gradient elements", dx.len(), x.len())?;
    expect_len("gates' gradient elements", dgate.len(), n)?;
    let sorted = Sorted::new(x, n, d, routes, expert)?;
    expect_len("hidden states of experts", hidden.len(), sorted.hidden_len()?)?;
    let d_ff = sorted.d_ff;
    let (wi, wi_1) = hidden.split_at(sorted.tokens.len() * d_ff);
    dx.fill(0.0);
    dgate.fill(0.0);
    let (dx, dgate) = (Disjoint::new(dx), Disjoint::new(dgate));
    sorted.each(|&Group { first, tokens, weights }| {
        let (m, rows) = (tokens.len(), first * d_ff..(first + tokens.len()) * d_ff);
        let inner = Inner { act, dropout, tokens: Tokens::Sorted(tokens), d_ff };
        let (wi, gate) = (&wi[rows.clone()], sorted.gated.then(|| &wi_1[rows]));
        let mut own = scratch::take("tokens of an expert", m * d)?;
        let mut own_dy = scratch::take("gradients of an expert", m * d)?;
        let mut activated = scratch::take("hidden states of an expert", m * d_ff)?;
        let mut inside = scratch::take("gradients inside an expert", m * d_ff)?;
        gather(x, d, tokens, &mut own);
        gather(dy, d, tokens, &mut own_dy);
        inner.activate(wi, gate, &mut activated);
        // Without the gate first: its gradient is then a product of what is at hand, whatever its value.
        linear_backward_input(precision, &own_dy, m, weights.wo, &mut inside)?;
        apply_gates(routes, tokens, &activated, &mut inside, &mut own_dy, &dgate)?;
        let index = tokens.first().map_or(0, |&(expert, _)| expert);
        let mut sink = |part, dy: &[f32], x: &[f32], m| sink(index, part, dy, x, m);
        sink(FeedForwardPart::Wo, &own_dy, &activated, m)?;
        drop(activated);
        // The gradients of the outputs are done with: their place takes those of the inputs.
        let own_dx = &mut own_dy;
        back_to_input(precision, &own, m, weights, &inner, wi, gate, &mut inside, Some(own_dx), &mut sink)?;
        scatter(own_dx, d, tokens, |_| 1.0, &dx);
        Ok(())
    })
}

/// One token of [`apply_gates`]; gives the gradient of its gate.
struct Gate<'a> {
    weight: f32,
    activated: &'a [f32],
    inside: &'a mut [f32],
    own_dy: &'a mut [f32],
}

impl Op for Gate<'_> {
    type Out = f32;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let gradient = dot(self.inside, self.activated);
        self.inside.iter_mut().for_each(|x| *x *= self.weight);
        self.own_dy.iter_mut().for_each(|x| *x *= self.weight);
        gradient
    }
}

/// Summed in 16 lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}
