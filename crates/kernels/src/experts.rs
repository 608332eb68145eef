//! Feed-forward layers: the dense one, and the grouped one whose experts each take the tokens routed to them.
//!
//! Both are two parallel regions, one per product. Tokens are sorted by expert once; a region's tasks are slices of an
//! expert's output features, cut so that all tasks cost about the same, whatever share of the tokens an expert has.
//! Experts without tokens have no task.

use crate::activation::{activate_serial, Activation};
use crate::error::{expect_len, product, KernelError};
use crate::gemm::{self, Block};
use crate::matrix::Matrix;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::route::Routes;
use crate::scratch;
use std::ops::Range;

/// Weights of one feed-forward layer. With `wi_1` it is the gated form, in which `wi` is the checkpoint's `wi_0`.
#[derive(Debug, Clone, Copy)]
pub struct ExpertWeights<'a> {
    /// `[d_ff, d]`
    pub wi: Matrix<'a>,
    /// `[d_ff, d]`
    pub wi_1: Option<Matrix<'a>>,
    /// `[d, d_ff]`
    pub wo: Matrix<'a>,
}

impl ExpertWeights<'_> {
    fn check(&self, d: usize) -> Result<(), KernelError> {
        self.wi.check()?;
        self.wo.check()?;
        expect_len("columns of wi", self.wi.cols, d)?;
        expect_len("rows of wo", self.wo.rows, d)?;
        expect_len("columns of wo", self.wo.cols, self.wi.rows)?;
        if let Some(wi_1) = &self.wi_1 {
            wi_1.check()?;
            expect_len("columns of wi_1", wi_1.cols, d)?;
            expect_len("rows of wi_1", wi_1.rows, self.wi.rows)?;
        }
        Ok(())
    }
}

/// `out[n, d] = act(x · wiᵀ) · woᵀ`, or, gated, `(act(x · wiᵀ) ∘ (x · wi_1ᵀ)) · woᵀ`.
pub fn feed_forward(
    x: &[f32],
    n: usize,
    d: usize,
    weights: &ExpertWeights<'_>,
    act: Activation,
    out: &mut [f32],
) -> Result<(), KernelError> {
    feed_forward_with(Precision::Float32, x, n, d, weights, act, out)
}

/// [`feed_forward`] with the given precision.
pub fn feed_forward_with(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    weights: &ExpertWeights<'_>,
    act: Activation,
    out: &mut [f32],
) -> Result<(), KernelError> {
    expect_len("feed-forward input elements", x.len(), product("feed-forward input", n, d)?)?;
    expect_len("feed-forward output elements", out.len(), x.len())?;
    weights.check(d)?;
    let mut groups = Vec::new();
    push_groups(&mut groups, *weights, 0..n);
    both_products(precision, x, d, &groups, act, out)
}

/// `out[t] = routes.weight[t] · expert(x[t])` for the expert that token `t` is routed to, 0 for tokens that go nowhere.
///
/// `x` and `out` are `[n, d]`; `expert` gives the weights of an expert that has tokens, once each, in ascending order, and
/// its errors are returned. All have the same `d_ff`. On error `out` is unspecified.
pub fn experts<'a>(
    x: &[f32],
    n: usize,
    d: usize,
    routes: &Routes,
    act: Activation,
    expert: &(dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync),
    out: &mut [f32],
) -> Result<(), KernelError> {
    experts_with(Precision::Float32, x, n, d, routes, act, expert, out)
}

/// [`experts`] with the given precision.
#[allow(clippy::too_many_arguments)] // One more than `experts`, whose arguments are all needed.
pub fn experts_with<'a>(
    precision: Precision,
    x: &[f32],
    n: usize,
    d: usize,
    routes: &Routes,
    act: Activation,
    expert: &(dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync),
    out: &mut [f32],
) -> Result<(), KernelError> {
    expect_len("expert input elements", x.len(), product("expert input", n, d)?)?;
    expect_len("expert output elements", out.len(), x.len())?;
    expect_len("routed tokens", routes.expert.len(), n)?;
    expect_len("route weights", routes.weight.len(), n)?;
    let tokens = tokens_by_expert(routes)?;
    let groups = groups(&tokens, d, expert)?;
    let size = product("routed tokens", tokens.len(), d)?;
    let mut sorted = scratch::take("tokens sorted by expert", size)?;
    let mut results = scratch::take("results of experts", size)?;
    parallel::for_each_row_chunk(&mut sorted, d, COPY_GRAIN.div_ceil(d.max(1)), |first, sorted| {
        for (to, &(_, token)) in sorted.chunks_exact_mut(d.max(1)).zip(&tokens[first..]) {
            to.copy_from_slice(&x[token * d..(token + 1) * d]);
        }
    });
    both_products(precision, &sorted, d, &groups, act, &mut results)?;
    let mut row_of = vec![None; n];
    for (row, &(_, token)) in tokens.iter().enumerate() {
        row_of[token] = Some(row);
    }
    parallel::for_each_row_chunk(out, d, COPY_GRAIN.div_ceil(d.max(1)), |first, out| {
        for (token, out) in (first..).zip(out.chunks_exact_mut(d.max(1))) {
            let Some(row) = row_of[token] else {
                out.fill(0.0);
                continue;
            };
            for (out, y) in out.iter_mut().zip(&results[row * d..(row + 1) * d]) {
                *out = y * routes.weight[token];
            }
        }
    });
    Ok(())
}

/// Elements below which another thread costs more to copy them than it brings.
const COPY_GRAIN: usize = 32 * 1024;

/// (expert, token) of the tokens that go somewhere, by expert and then by position.
fn tokens_by_expert(routes: &Routes) -> Result<Vec<(usize, usize)>, KernelError> {
    let mut tokens = Vec::with_capacity(routes.expert.len());
    for (token, &expert) in routes.expert.iter().enumerate() {
        match usize::try_from(expert) {
            Ok(expert) => tokens.push((expert, token)),
            Err(_) if expert == -1 => {}
            Err(_) => return Err(KernelError::Route { token, expert }),
        }
    }
    tokens.sort_unstable();
    Ok(tokens)
}

/// Rows that share weights.
struct Group<'a> {
    weights: ExpertWeights<'a>,
    /// Rows of the sorted input, of the hidden states and of the results.
    rows: Range<usize>,
}

/// Adds the rows of one expert, cut where there are many.
fn push_groups<'a>(groups: &mut Vec<Group<'a>>, weights: ExpertWeights<'a>, rows: Range<usize>) {
    let size = gemm::rows_per_task(rows.len(), &weights.wi);
    for start in rows.clone().step_by(size) {
        groups.push(Group { weights, rows: start..(start + size).min(rows.end) });
    }
}

/// The groups of the experts that have tokens, whose weights are asked for and checked.
fn groups<'a>(
    tokens: &[(usize, usize)],
    d: usize,
    expert: &(dyn Fn(usize) -> Result<ExpertWeights<'a>, KernelError> + Sync),
) -> Result<Vec<Group<'a>>, KernelError> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut row = 0;
    for same in tokens.chunk_by(|a, b| a.0 == b.0) {
        let weights = expert(same[0].0)?;
        weights.check(d)?;
        if let Some(first) = groups.first() {
            expect_len("rows of wi", weights.wi.rows, first.weights.wi.rows)?;
        }
        push_groups(&mut groups, weights, row..row + same.len());
        row += same.len();
    }
    Ok(groups)
}

/// Output features of a group that are computed together.
struct Task {
    group: usize,
    features: Range<usize>,
}

/// Multiply-adds below which a task costs more to hand out than it brings.
const MIN_TASK: usize = 64 * 1024;

/// Tasks per thread: enough for an even end, few enough that inputs are not read too often.
const TASKS_PER_THREAD: usize = 4;

/// Cuts `features` columns of `cols` summed elements per row of each group in tasks of about the same cost.
fn tasks(groups: &[Group<'_>], shape: impl Fn(&Group<'_>) -> (usize, usize)) -> Vec<Task> {
    let cost = |group: &Group<'_>| {
        let (features, cols) = shape(group);
        (features, cols.max(1).saturating_mul(group.rows.len().max(1)))
    };
    let total = groups.iter().map(cost).fold(0usize, |sum, (n, each)| sum.saturating_add(n.saturating_mul(each)));
    let target = (total / (parallel::threads() * TASKS_PER_THREAD)).max(MIN_TASK);
    let mut tasks = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let (features, each) = cost(group);
        // Whole panels of weights.
        let size = (target / each).max(1).next_multiple_of(gemm::TASK_FEATURES).min(features.max(1));
        for start in (0..features).step_by(size) {
            tasks.push(Task { group: index, features: start..(start + size).min(features) });
        }
    }
    tasks
}

/// `out[rows] = act(x[rows] · wiᵀ) · woᵀ` for each group. Shapes have been checked.
fn both_products(
    precision: Precision,
    x: &[f32],
    d: usize,
    groups: &[Group<'_>],
    act: Activation,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let Some((d_ff, rows)) = groups.last().map(|group| (group.weights.wi.rows, group.rows.end)) else { return Ok(()) };
    let size = product("feed-forward hidden states", rows, d_ff)?;
    let inner = gemm::prepare(precision, x, d, groups.iter().map(|group| (group.rows.clone(), group.weights.wi)))?;
    let outer = || groups.iter().map(|group| (group.rows.clone(), group.weights.wo));
    // A gate is multiplied in between; else the first product writes what the second reads.
    let gated = groups.iter().any(|group| group.weights.wi_1.is_some());
    let mut filled = if gated { None } else { gemm::inputs_to_fill(&inner, d_ff, outer())? };
    let unneeded = filled.as_ref().is_some_and(gemm::Inputs::are_all_packed);
    let mut hidden = scratch::take("feed-forward hidden states", if unneeded { 0 } else { size })?;
    inner_products(x, d, groups, act, &inner, filled.as_mut(), &mut hidden)?;
    let inputs = match filled {
        Some(filled) => filled,
        None => gemm::prepare(precision, &hidden, d_ff, outer())?,
    };
    let (hidden, results) = (&hidden[..], Disjoint::new(out));
    let tasks = tasks(groups, |group| (d, group.weights.wo.cols));
    parallel::for_each_task(tasks.len(), |index| {
        let task = &tasks[index];
        let Group { weights, rows } = &groups[task.group];
        let x = hidden.get(rows.start * d_ff..rows.end * d_ff).unwrap_or(&[]);
        // SAFETY: a group's rows lie in the output, and tasks have no column of a row in common.
        unsafe {
            let y = results.as_ptr().add(rows.start * d);
            let block = Block { x, x_stride: d_ff, n: rows.len(), w: weights.wo, y, y_stride: d };
            gemm::product(block, &inputs, task.group, task.features.clone());
        }
    });
    Ok(())
}

/// `hidden = act(x · wiᵀ)`, times `x · wi_1ᵀ` where there is a gate; in `filled` instead where a group has its place there.
fn inner_products(
    x: &[f32],
    d: usize,
    groups: &[Group<'_>],
    act: Activation,
    inputs: &gemm::Inputs,
    mut filled: Option<&mut gemm::Inputs>,
    hidden: &mut [f32],
) -> Result<(), KernelError> {
    let gated = groups.iter().any(|group| group.weights.wi_1.is_some());
    let mut gates = scratch::take("feed-forward gates", if gated { hidden.len() } else { 0 })?;
    let (hidden, gates) = (Disjoint::new(hidden), Disjoint::new(&mut gates));
    let filling = filled.as_mut().map(|filled| filled.filling());
    let tasks = tasks(groups, |group| (group.weights.wi.rows, d));
    let failure = parallel::Failure::default();
    parallel::for_each_task(tasks.len(), |index| {
        let task = &tasks[index];
        let Group { weights, rows } = &groups[task.group];
        let d_ff = weights.wi.rows;
        let block = |w, to: &Disjoint<'_>| {
            // A group's hidden states lie in the buffers, or are not written there.
            let y = to.as_ptr().wrapping_add(rows.start * d_ff);
            Block { x: &x[rows.start * d..rows.end * d], x_stride: d, n: rows.len(), w, y, y_stride: d_ff }
        };
        if let Some(filling) = &filling {
            let (block, features) = (block(weights.wi, &hidden), task.features.clone());
            // SAFETY: tasks have no feature of a row in common, and are cut at whole panels.
            match unsafe { gemm::product_into(block, inputs, task.group, features, act, filling) } {
                Ok(false) => {}
                done => return failure.note(done.map(|_| ())),
            }
        }
        let parts = rows.clone().map(|row| row * d_ff + task.features.start..row * d_ff + task.features.end);
        // SAFETY: tasks have no feature of a row in common.
        unsafe {
            gemm::product(block(weights.wi, &hidden), inputs, task.group, task.features.clone());
            for part in parts.clone() {
                activate_serial(act, hidden.slice(part));
            }
            if let Some(wi_1) = weights.wi_1 {
                gemm::product(block(wi_1, &gates), inputs, task.group, task.features.clone());
                for part in parts {
                    for (h, gate) in hidden.slice(part.clone()).iter_mut().zip(gates.slice(part)) {
                        *h *= *gate;
                    }
                }
            }
        }
    });
    failure.into_result()
}
