//! What is bound by memory alone: `kernels/pointwise.cu`.

use super::{int, push, row_threads, shared, Address, Launches, WeightType, WARP};
use crate::error::{product, KernelError};
use crate::{Activation, Rounding};

const THREADS: u32 = 256;

/// A thread per element.
fn elements(what: &'static str, n: usize) -> Result<[u32; 3], KernelError> {
    Ok([int(what, n.div_ceil(THREADS as usize))? as u32, 1, 1])
}

/// A float per warp.
fn per_warp(threads: u32) -> u32 {
    threads / WARP * 4
}

/// `out = a + b`, `n` elements each.
pub fn add(launches: &mut Launches, a: Address, b: Address, n: usize, out: Address) -> Result<(), KernelError> {
    let arguments = vec![a.into(), b.into(), (n as i64).into(), out.into()];
    push(launches, "add", elements("elements of a sum", n)?, THREADS, 0, arguments);
    Ok(())
}

/// `out = factor · x`
pub fn scale(launches: &mut Launches, x: Address, factor: f32, n: usize, out: Address) -> Result<(), KernelError> {
    let arguments = vec![x.into(), factor.into(), (n as i64).into(), out.into()];
    push(launches, "scale", elements("elements to scale", n)?, THREADS, 0, arguments);
    Ok(())
}

/// `out[r, c] = x[r, c] + bias[c]`
pub fn add_row(
    launches: &mut Launches,
    x: Address,
    bias: Address,
    rows: usize,
    d: usize,
    out: Address,
) -> Result<(), KernelError> {
    let n = product("elements of a sum", rows, d)?;
    let arguments = vec![x.into(), bias.into(), (n as i64).into(), int("columns", d)?.into(), out.into()];
    push(launches, "add_row", elements("elements of a sum", n)?, THREADS, 0, arguments);
    Ok(())
}

/// Each element to a type and back.
pub fn round_to(
    launches: &mut Launches,
    x: Address,
    rounding: Rounding,
    n: usize,
    out: Address,
) -> Result<(), KernelError> {
    let arguments = vec![x.into(), super::route::rounding(rounding).into(), (n as i64).into(), out.into()];
    push(launches, "round_to", elements("elements to round", n)?, THREADS, 0, arguments);
    Ok(())
}

/// The gradients before an activation and of its gate (0: none), of `n` elements.
#[allow(clippy::too_many_arguments)] // Three in, two out.
pub fn activation_backward(
    launches: &mut Launches,
    act: Activation,
    pre: Address,
    gate: Address,
    grad: Address,
    n: usize,
    pre_grad: Address,
    gate_grad: Address,
) -> Result<(), KernelError> {
    let arguments = vec![
        pre.into(),
        gate.into(),
        grad.into(),
        (act as i32).into(),
        (n as i64).into(),
        pre_grad.into(),
        gate_grad.into(),
    ];
    push(launches, "activation_backward", elements("hidden states", n)?, THREADS, 0, arguments);
    Ok(())
}

/// [`crate::rms_norm`] of `x`, or of `x + residual`, which `sum` then receives.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RmsNorm {
    pub x: Address,
    /// 0: none.
    pub residual: Address,
    pub sum: Address,
    pub weight: Address,
    pub eps: f32,
    pub out: Address,
}

/// Pushes the norm of `rows` rows of `d`.
pub fn rms_norm(launches: &mut Launches, p: &RmsNorm, rows: usize, d: usize) -> Result<(), KernelError> {
    let threads = row_threads(d);
    let arguments = vec![
        p.x.into(),
        p.residual.into(),
        p.sum.into(),
        p.weight.into(),
        p.eps.into(),
        int("columns", d)?.into(),
        p.out.into(),
    ];
    push(launches, "rms_norm", [int("rows", rows)? as u32, 1, 1], threads, per_warp(threads), arguments);
    Ok(())
}

/// Parts in which the gradient of a norm's weight is summed before the whole.
pub const NORM_WEIGHT_PARTS: usize = 64;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RmsNormBackward {
    pub x: Address,
    pub weight: Address,
    pub eps: f32,
    pub out_grad: Address,
    pub x_grad: Address,
    /// 0: not wanted, nor the scratch below.
    pub weight_grad: Address,
    /// Scratch, `[rows]`.
    pub scales: Address,
    /// Scratch, `[NORM_WEIGHT_PARTS, d]`.
    pub partial: Address,
}

/// Pushes the gradients of the norm of `rows` rows of `d`.
pub fn rms_norm_backward(
    launches: &mut Launches,
    p: &RmsNormBackward,
    rows: usize,
    d: usize,
) -> Result<(), KernelError> {
    let threads = row_threads(d);
    let (each_row, columns) = ([int("rows", rows)? as u32, 1, 1], int("columns", d)?);
    let arguments = vec![p.x.into(), p.weight.into(), p.out_grad.into(), p.eps.into(), columns.into(), p.x_grad.into()];
    push(launches, "rms_norm_backward", each_row, threads, per_warp(threads), arguments);
    if p.weight_grad == 0 {
        return Ok(());
    }
    let arguments = vec![p.x.into(), p.eps.into(), columns.into(), p.scales.into()];
    push(launches, "row_scales", each_row, threads, per_warp(threads), arguments);
    let rows_each = rows.div_ceil(NORM_WEIGHT_PARTS).max(1);
    let across = (columns as u32).div_ceil(THREADS);
    let arguments = vec![
        p.x.into(),
        p.scales.into(),
        p.out_grad.into(),
        int("rows", rows)?.into(),
        int("rows", rows_each)?.into(),
        columns.into(),
        p.partial.into(),
    ];
    push(launches, "rms_norm_weight_backward", [across, NORM_WEIGHT_PARTS as u32, 1], THREADS, 0, arguments);
    sum_rows(launches, p.partial, NORM_WEIGHT_PARTS, d, p.weight_grad)
}

/// `out[c] = Σ x[r, c]`, in order.
pub fn sum_rows(launches: &mut Launches, x: Address, rows: usize, d: usize, out: Address) -> Result<(), KernelError> {
    let columns = int("columns", d)?;
    let arguments = vec![x.into(), int("rows", rows)?.into(), columns.into(), out.into()];
    push(launches, "sum_rows", [(columns as u32).div_ceil(THREADS), 1, 1], THREADS, 0, arguments);
    Ok(())
}

/// Rows `ids[..count]` of a table of this type, `d` wide. Ids must lie in it.
pub fn embedding(
    launches: &mut Launches,
    table: Address,
    weight: WeightType,
    ids: Address,
    count: usize,
    d: usize,
    out: Address,
) -> Result<(), KernelError> {
    let kernel = match weight {
        WeightType::F32 => "embedding_f32",
        WeightType::F16 => "embedding_f16",
        WeightType::Bf16 => "embedding_bf16",
        WeightType::Int8 { .. } | WeightType::Int4 { .. } => {
            return Err(KernelError::Dimension { what: "bits of an embedding on CUDA", expected: "16 or 32", found: 8 })
        }
    };
    let arguments = vec![table.into(), ids.into(), int("columns", d)?.into(), out.into()];
    push(launches, kernel, [int("ids", count)? as u32, 1, 1], row_threads(d), 0, arguments);
    Ok(())
}

/// Adds the gradients of embeddings to their rows of `table_grad`.
pub fn embedding_backward(
    launches: &mut Launches,
    ids: Address,
    out_grad: Address,
    tokens: usize,
    d: usize,
    table_grad: Address,
) -> Result<(), KernelError> {
    let n = int("tokens", tokens)?;
    let arguments = vec![ids.into(), out_grad.into(), n.into(), int("columns", d)?.into(), table_grad.into()];
    push(launches, "embedding_backward", [n as u32, 1, 1], 128, 4, arguments);
    Ok(())
}

/// Rows of `x` in the order of a list of `*count` (an address; at most `most`), times `weight` by row of `x` (0: none).
#[allow(clippy::too_many_arguments)] // Four addresses in, one out, two sizes.
pub fn gather_rows(
    launches: &mut Launches,
    x: Address,
    order: Address,
    count: Address,
    weight: Address,
    most: usize,
    d: usize,
    out: Address,
) -> Result<(), KernelError> {
    let arguments = vec![x.into(), order.into(), count.into(), weight.into(), int("columns", d)?.into(), out.into()];
    push(launches, "gather_rows", [int("rows", most)? as u32, 1, 1], row_threads(d), 0, arguments);
    Ok(())
}

/// `out[order[i]] = x[order[i]] · y[i]` for each place `i` of a list of `*count` (an address; at most `most`).
#[allow(clippy::too_many_arguments)] // As above.
pub fn row_dots(
    launches: &mut Launches,
    x: Address,
    y: Address,
    order: Address,
    count: Address,
    most: usize,
    d: usize,
    out: Address,
) -> Result<(), KernelError> {
    let threads = row_threads(d);
    let arguments = vec![x.into(), y.into(), order.into(), count.into(), int("columns", d)?.into(), out.into()];
    push(launches, "row_dots", [int("rows", most)? as u32, 1, 1], threads, per_warp(threads), arguments);
    Ok(())
}

/// Row `t` of `x` `[tokens, width]` to row `to[t]` of a cache.
pub fn scatter_rows(
    launches: &mut Launches,
    x: Address,
    to: Address,
    tokens: usize,
    width: usize,
    cache: Address,
) -> Result<(), KernelError> {
    let arguments = vec![x.into(), to.into(), int("columns", width)?.into(), cache.into()];
    push(launches, "scatter_rows", [int("rows", tokens)? as u32, 1, 1], row_threads(width), 0, arguments);
    Ok(())
}

/// The index of the largest of each row `[rows, n]`, the lowest among equals, as 32 bits.
pub fn argmax_rows(
    launches: &mut Launches,
    x: Address,
    rows: usize,
    n: usize,
    out: Address,
) -> Result<(), KernelError> {
    let threads = 512u32;
    let arguments = vec![x.into(), int("columns", n)?.into(), out.into()];
    let bytes = shared("warps", 2 * per_warp(threads) as usize)?;
    push(launches, "argmax_rows", [int("rows", rows)? as u32, 1, 1], threads, bytes, arguments);
    Ok(())
}

/// Log-probabilities of `labels` (32 bits; below 0: none) under `logits` `[tokens, classes]`, and, unless `logits_grad` is
/// 0, the gradient of `-factor · Σ log p`.
#[allow(clippy::too_many_arguments)] // Two in, two out, three numbers.
pub fn cross_entropy(
    launches: &mut Launches,
    logits: Address,
    labels: Address,
    tokens: usize,
    classes: usize,
    factor: f32,
    log_probs: Address,
    logits_grad: Address,
) -> Result<(), KernelError> {
    let threads = 256;
    let arguments = vec![
        logits.into(),
        labels.into(),
        int("classes", classes)?.into(),
        factor.into(),
        log_probs.into(),
        logits_grad.into(),
    ];
    push(launches, "cross_entropy", [int("tokens", tokens)? as u32, 1, 1], threads, per_warp(threads), arguments);
    Ok(())
}
