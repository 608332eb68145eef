//! Noise, hidden states and the loss of a training step: `kernels/training.cu`.

use super::{int, push, row_threads, Address, Argument, Launches, WARP};
use crate::error::KernelError;
use crate::training::{Dropout, TokenLossOptions};
use crate::Activation;

const THREADS: u32 = 256;

/// [`Dropout`] as the kernels read it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutArgument {
    seed: u64,
    threshold: u32,
    scale: f32,
}

impl Default for DropoutArgument {
    /// Drops nothing.
    fn default() -> Self {
        (&Dropout::NONE).into()
    }
}

impl From<&Dropout> for DropoutArgument {
    fn from(dropout: &Dropout) -> Self {
        let (seed, threshold, scale) = dropout.parts();
        Self { seed, threshold, scale }
    }
}

impl DropoutArgument {
    pub(super) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let parts = [&self.seed.to_ne_bytes()[..], &self.threshold.to_ne_bytes(), &self.scale.to_ne_bytes()].concat();
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }
}

fn elements(n: usize) -> Result<[u32; 3], KernelError> {
    Ok([int("elements", n.div_ceil(THREADS as usize))? as u32, 1, 1])
}

/// `y = dropout(x)`, `n` elements numbered from 0.
pub fn dropout(launches: &mut Launches, x: Address, d: &Dropout, n: usize, y: Address) -> Result<(), KernelError> {
    let d = Argument(DropoutArgument::from(d).bytes().to_vec());
    push(launches, "dropout", elements(n)?, THREADS, 0, vec![x.into(), d, (n as i64).into(), y.into()]);
    Ok(())
}

/// `y[i] = x[i]` times a factor from `1 - noise` to `1 + noise` of the seed and `i`.
pub fn jitter(
    launches: &mut Launches,
    x: Address,
    noise: f32,
    seed: u64,
    n: usize,
    y: Address,
) -> Result<(), KernelError> {
    let arguments = vec![x.into(), noise.into(), seed.into(), (n as i64).into(), y.into()];
    push(launches, "jitter", elements(n)?, THREADS, 0, arguments);
    Ok(())
}

/// Columns `from.1..` of `from.0` `[rows, from.2]` to columns `to.1..` of `to.0` `[rows, to.2]`, `columns` of them.
pub fn copy_columns(
    launches: &mut Launches,
    from: (Address, usize, usize),
    to: (Address, usize, usize),
    rows: usize,
    columns: usize,
) -> Result<(), KernelError> {
    for (_, first, width) in [from, to] {
        if first.checked_add(columns).is_none_or(|end| end > width) {
            return Err(KernelError::Dimension { what: "columns", expected: "what the rows have", found: columns });
        }
    }
    let number = |value| int("columns", value).map(Argument::from);
    let arguments = vec![
        from.0.into(),
        number(from.2)?,
        number(from.1)?,
        number(columns)?,
        number(to.2)?,
        number(to.1)?,
        to.0.into(),
    ];
    push(launches, "copy_columns", [int("rows", rows)? as u32, 1, 1], row_threads(columns), 0, arguments);
    Ok(())
}

/// Hidden states of `most` rows of `d_ff`: all tokens, or the places of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activated {
    /// What goes into the activation.
    pub pre: Address,
    /// 0: none.
    pub gate: Address,
    pub act: Activation,
    /// Element `j` of token `t` has the number `t * d_ff + j`.
    pub dropout: DropoutArgument,
    /// The token at each place, and an address of how many there are; 0: row `i` is token `i`.
    pub order: Address,
    pub count: Address,
    pub most: usize,
    pub d_ff: usize,
}

impl Activated {
    fn push(&self, launches: &mut Launches, kernel: &'static str, results: &[Address]) -> Result<(), KernelError> {
        let mut arguments = vec![
            self.pre.into(),
            self.gate.into(),
            (self.act as i32).into(),
            Argument(self.dropout.bytes().to_vec()),
            self.order.into(),
            self.count.into(),
            int("hidden width", self.d_ff)?.into(),
        ];
        arguments.extend(results.iter().map(|address| Argument::from(*address)));
        push(launches, kernel, [int("rows", self.most)? as u32, 1, 1], row_threads(self.d_ff), 0, arguments);
        Ok(())
    }
}

/// `out = dropout(act(pre) ∘ gate)`
pub fn activate_rows(launches: &mut Launches, p: &Activated, out: Address) -> Result<(), KernelError> {
    p.push(launches, "activate_rows", &[out])
}

/// The way back through [`activate_rows`]: `grad` becomes the gradient of `pre`, `gate_grad` gets that of the gate.
pub fn activate_rows_backward(
    launches: &mut Launches,
    p: &Activated,
    grad: Address,
    gate_grad: Address,
) -> Result<(), KernelError> {
    p.push(launches, "activate_rows_backward", &[grad, gate_grad])
}

/// For the places of a list (as in [`Activated`]) the gradient of their tokens' router weight, `inside · activated`, to
/// `weight_grad` by token; then multiplies rows of `inside` by the weight.
#[allow(clippy::too_many_arguments)] // Four addresses in, two out, two sizes.
pub fn gate_backward(
    launches: &mut Launches,
    activated: Address,
    weight: Address,
    order: Address,
    count: Address,
    most: usize,
    d_ff: usize,
    inside: Address,
    weight_grad: Address,
) -> Result<(), KernelError> {
    let threads = row_threads(d_ff);
    let arguments = vec![
        activated.into(),
        weight.into(),
        order.into(),
        count.into(),
        int("hidden width", d_ff)?.into(),
        inside.into(),
        weight_grad.into(),
    ];
    push(launches, "gate_backward", [int("rows", most)? as u32, 1, 1], threads, threads / WARP * 4, arguments);
    Ok(())
}

/// Where [`token_loss`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// `[tokens, vocab]`; becomes the gradient where one is wanted.
    pub logits: Address,
    /// `[tokens, vocab]`; 0: none.
    pub teacher: Address,
    /// `[tokens]`, 32 bits, all in the vocabulary.
    pub labels: Address,
    /// `[tokens, 3]` float64: the sums of [`crate::training::TokenLossSums`] of each token.
    pub losses: Address,
    /// `[tokens]`, 32 bits.
    pub correct: Address,
}

/// Pushes [`crate::training::token_loss`] of tokens that all count.
pub fn token_loss(
    launches: &mut Launches,
    p: &TokenLoss,
    tokens: usize,
    vocab: usize,
    options: &TokenLossOptions,
    gradient: Option<f32>,
) -> Result<(), KernelError> {
    let mut bytes = Vec::with_capacity(72);
    for address in [p.logits, p.teacher, p.labels, p.losses, p.correct] {
        bytes.extend_from_slice(&address.to_ne_bytes());
    }
    bytes.extend_from_slice(&int("vocabulary", vocab)?.to_ne_bytes());
    bytes.extend_from_slice(&i32::from(gradient.is_some()).to_ne_bytes());
    for value in [
        gradient.unwrap_or(0.0),
        options.label_smoothing,
        options.z_loss,
        options.hard_weight,
        options.soft_weight,
        options.temperature,
    ] {
        bytes.extend_from_slice(&value.to_ne_bytes());
    }
    let grid = [int("tokens", tokens)? as u32, 1, 1];
    push(launches, "token_loss", grid, THREADS, THREADS / WARP * 8, vec![Argument(bytes)]);
    Ok(())
}
