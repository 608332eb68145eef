//! Attention over ragged rows: `kernels/attention.cu` and `attention_backward.cu`.

use super::training::DropoutArgument;
use super::{int, push, shared, side, Address, Argument, Launches, WARP};
use crate::error::{product, KernelError};

/// Features of a head that the kernels hold in registers.
pub const MOST_HEAD_DIM: usize = 128;
const TILE_QUERIES: usize = 32;
const KEYS: usize = 32;

/// A row: where its queries and keys lie in their buffers, in tokens, and what they may see. The kernel's `struct Span`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub q_start: usize,
    pub q_len: usize,
    pub kv_start: usize,
    pub kv_len: usize,
    /// Where its mask of `kv_len` bytes begins in the batch's masks.
    pub mask_start: Option<usize>,
    /// `Some(past)`: query `i` sees keys `0..=past + i`, and stands at position `past + i` for the bias.
    pub causal_offset: Option<usize>,
}

impl Span {
    /// The eight integers of a span on the device.
    pub fn words(&self) -> Result<[i32; 8], KernelError> {
        let or_none = |value: Option<usize>| value.map_or(Ok(-1), |v| int("attention offset", v));
        Ok([
            int("query position", self.q_start)?,
            int("queries", self.q_len)?,
            int("key position", self.kv_start)?,
            int("keys", self.kv_len)?,
            or_none(self.mask_start)?,
            or_none(self.causal_offset)?,
            int("query position", self.causal_offset.unwrap_or(0))?,
            0,
        ])
    }
}

/// The operands of attention. Strides are elements from one token to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Attention {
    pub q: Address,
    pub k: Address,
    pub v: Address,
    pub out: Address,
    /// `[tokens, heads]`, wanted by [`attention_backward`]; 0: none.
    pub lse: Address,
    /// [`Span::words`] of each row.
    pub spans: Address,
    pub masks: Address,
    /// `[heads, span]`, distance 0 at `zero`; 0: none.
    pub bias: Address,
    pub kv_stride: usize,
    pub q_stride: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub span: usize,
    pub zero: usize,
    /// Of probabilities, in training: [`attention`] honours it where `lse` is given.
    pub dropout: DropoutArgument,
}

fn check(heads: usize, head_dim: usize) -> Result<(), KernelError> {
    product("heads * head_dim", heads, head_dim)?;
    if head_dim == 0 || head_dim > MOST_HEAD_DIM {
        return Err(KernelError::Dimension { what: "head_dim on CUDA", expected: "1 to 128", found: head_dim });
    }
    Ok(())
}

/// Every pair of a query and a key that it sees has its distance in the bias.
fn check_bias(rows: &[Span], span: usize, zero: usize) -> Result<(), KernelError> {
    for row in rows.iter().filter(|row| row.q_len > 0 && row.kv_len > 0) {
        let position = row.causal_offset.unwrap_or(0);
        let last_query = position.saturating_add(row.q_len - 1);
        let last_key = match row.causal_offset {
            Some(_) => last_query.min(row.kv_len - 1),
            None => row.kv_len - 1,
        };
        if last_query > zero || last_key >= span.saturating_sub(zero) {
            return Err(KernelError::Shape {
                what: "relative bias distances",
                expected: last_query.saturating_add(last_key).saturating_add(1),
                found: span,
            });
        }
    }
    Ok(())
}

/// Pushes the launch for `rows`, whose words are at `p.spans`. Rules as in [`crate::attention`].
pub fn attention(launches: &mut Launches, p: &Attention, rows: &[Span]) -> Result<(), KernelError> {
    check(p.heads, p.head_dim)?;
    if p.bias != 0 {
        check_bias(rows, p.span, p.zero)?;
    }
    let longest = rows.iter().map(|row| row.q_len).max().unwrap_or(0);
    let keys = rows.iter().map(|row| row.kv_len).max().unwrap_or(0);
    let heads = side("heads", p.heads)?;
    let count = int("rows", rows.len())? as u32;
    let one_threads = (p.head_dim as u32).next_multiple_of(WARP).max(128);
    let one_floats = keys.saturating_add(p.head_dim + (one_threads / WARP) as usize);
    if longest == 1 && p.lse == 0 && rows.iter().all(|row| row.q_len == 1) {
        if let Ok(bytes) = shared("keys", one_floats.saturating_mul(4)) {
            let arguments = vec![p.argument(1)?, int("keys", keys)?.into()];
            push(launches, "attention_one", [count, heads, 1], one_threads, bytes, arguments);
            return Ok(());
        }
    }
    let tiles = longest.div_ceil(TILE_QUERIES);
    let blocks = product("tiles of queries", rows.len(), tiles)?;
    let grid = [int("tiles of queries", blocks)? as u32, heads, 1];
    let floats = TILE_QUERIES * (p.head_dim + KEYS) + KEYS * (p.head_dim + 1);
    let bytes = shared("head_dim", floats * 4)?;
    push(launches, "attention_forward", grid, 4 * WARP, bytes, vec![p.argument(tiles)?]);
    Ok(())
}

impl Attention {
    fn argument(&self, tiles: usize) -> Result<Argument, KernelError> {
        let mut bytes = Vec::with_capacity(104);
        for value in [self.q, self.k, self.v, self.out, self.lse, self.spans, self.masks, self.bias] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        shape(&mut bytes, [self.kv_stride, self.q_stride], [self.heads, self.head_dim, self.span, self.zero])?;
        bytes.extend_from_slice(&self.dropout.bytes());
        bytes.extend_from_slice(&int("tiles of queries", tiles)?.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Ok(Argument(bytes))
    }
}

fn shape(bytes: &mut Vec<u8>, strides: [usize; 2], sizes: [usize; 4]) -> Result<(), KernelError> {
    for stride in strides {
        bytes.extend_from_slice(&(stride as u64).to_ne_bytes());
    }
    for size in sizes {
        bytes.extend_from_slice(&int("attention dimension", size)?.to_ne_bytes());
    }
    Ok(())
}

/// What the backward pass reads and writes beside the forward's operands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AttentionBackward {
    /// With `out` and `lse` as the forward pass left them.
    pub forward: Attention,
    pub out_grad: Address,
    pub q_grad: Address,
    pub k_grad: Address,
    pub v_grad: Address,
    /// `[rows, heads, span]`, to be summed over rows; 0: none.
    pub bias_grad: Address,
}

/// Pushes the launches of the gradients. Spans of keys must not overlap.
pub fn attention_backward(launches: &mut Launches, p: &AttentionBackward, rows: &[Span]) -> Result<(), KernelError> {
    const WARPS: usize = 4;
    let f = &p.forward;
    check(f.heads, f.head_dim)?;
    let mut bytes = Vec::with_capacity(144);
    let bias_grad = if f.bias != 0 { p.bias_grad } else { 0 };
    for value in
        [f.q, f.k, f.v, f.out, f.lse, p.out_grad, p.q_grad, p.k_grad, p.v_grad, bias_grad, f.spans, f.masks, f.bias]
    {
        bytes.extend_from_slice(&value.to_ne_bytes());
    }
    shape(&mut bytes, [f.kv_stride, f.q_stride], [f.heads, f.head_dim, f.span, f.zero])?;
    bytes.extend_from_slice(&f.dropout.bytes());
    let argument = Argument(bytes);
    let (count, heads) = (int("rows", rows.len())? as u32, side("heads", f.heads)?);
    let longest = |of: fn(&Span) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let mut each = |kernel, items: usize| -> Result<(), KernelError> {
        let grid = [count, heads, side("parts of a row", items.div_ceil(WARPS))?];
        push(launches, kernel, grid, WARPS as u32 * WARP, 0, vec![argument.clone()]);
        Ok(())
    };
    each("attention_backward_q", longest(|row| row.q_len))?;
    each("attention_backward_kv", longest(|row| row.kv_len))?;
    if bias_grad != 0 {
        each("attention_backward_bias", f.span)?;
    }
    Ok(())
}
