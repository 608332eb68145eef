//! What a forward pass leaves for its way back: the ops that ran, in order, each with what its backward pass reads.
//!
//! candle's own graph would do, at a price that was measured: it starts each gradient as zeros and adds to them through a
//! pool of threads that spins between calls (a third of a training step of a small model), and it keeps every tensor of a
//! pass until the end. Here a gradient's first part is the gradient, elementwise ops keep nothing, and what an op kept goes
//! as soon as its backward pass is done.
//!
//! A tape records what runs on its thread while [`record`] does.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use candle_core::{CustomOp1, CustomOp2, CustomOp3, Tensor, TensorId};

use super::on_values;
use crate::error::{ModelError, Result};

thread_local! {
    static TAPE: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// What an op's backward pass reads beside the gradient of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Inputs,
    InputsAndResult,
}

enum Op {
    One(Box<dyn CustomOp1>),
    Two(Box<dyn CustomOp2>),
    Three(Box<dyn CustomOp3>),
}

struct Node {
    op: Op,
    inputs: Vec<TensorId>,
    result: TensorId,
    /// Inputs, then the result, as far as they are kept.
    kept: Vec<Tensor>,
}

/// The ops of a pass.
#[derive(Default)]
pub struct Tape {
    nodes: Vec<Node>,
    tracked: HashSet<TensorId>,
}

/// Runs `f` and records its ops. A recording within a recording is its own.
pub fn record<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, Tape)> {
    /// Puts the outer tape back, also when `f` panics.
    struct Outer(Option<Tape>);
    impl Drop for Outer {
        fn drop(&mut self) {
            let outer = self.0.take();
            TAPE.with(|tape| *tape.borrow_mut() = outer);
        }
    }
    let outer = Outer(TAPE.with(|tape| tape.borrow_mut().replace(Tape::default())));
    let value = f()?;
    let tape = TAPE.with(|tape| tape.borrow_mut().take()).unwrap_or_default();
    drop(outer);
    Ok((value, tape))
}

/// Whether ops are being recorded.
pub fn recording() -> bool {
    TAPE.with(|tape| tape.borrow().is_some())
}

/// Whether `x` follows from something that has a gradient.
pub fn tracked(x: &Tensor) -> bool {
    TAPE.with(|tape| tape.borrow().as_ref().is_some_and(|tape| tape.tracked.contains(&x.id())))
}

/// Gives `x` a gradient: the beginning of a recording.
pub fn track(x: &Tensor) {
    TAPE.with(|tape| {
        if let Some(tape) = tape.borrow_mut().as_mut() {
            tape.tracked.insert(x.id());
        }
    });
}

fn push(op: Op, inputs: &[&Tensor], result: &Tensor, keep: Keep) {
    TAPE.with(|tape| {
        let mut tape = tape.borrow_mut();
        let Some(tape) = tape.as_mut() else { return };
        let mut kept = Vec::new();
        if keep != Keep::Nothing {
            kept.extend(inputs.iter().map(|x| (*x).clone()));
        }
        if keep == Keep::InputsAndResult {
            kept.push(result.clone());
        }
        tape.tracked.insert(result.id());
        tape.nodes.push(Node { op, inputs: inputs.iter().map(|x| x.id()).collect(), result: result.id(), kept });
    });
}

/// Runs an op that is the beginning of what has gradients, whatever its input.
pub fn begin<C: 'static + CustomOp1>(x: &Tensor, op: C) -> Result<Tensor> {
    let y = x.apply_op1_no_bwd(&op)?;
    push(Op::One(Box::new(op)), &[x], &y, Keep::Nothing);
    Ok(y)
}

/// Runs an op of one input, recorded if the input is tracked.
pub fn apply1<C: 'static + CustomOp1>(x: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = x.apply_op1_no_bwd(&op)?;
    if tracked(x) {
        push(Op::One(Box::new(op)), &[x], &y, keep);
    }
    Ok(y)
}

/// The same of two inputs.
pub fn apply2<C: 'static + CustomOp2>(a: &Tensor, b: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = a.apply_op2_no_bwd(b, &op)?;
    if tracked(a) || tracked(b) {
        push(Op::Two(Box::new(op)), &[a, b], &y, keep);
    }
    Ok(y)
}

/// The same of three inputs.
pub fn apply3<C: 'static + CustomOp3>(a: &Tensor, b: &Tensor, c: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = a.apply_op3_no_bwd(b, c, &op)?;
    if tracked(a) || tracked(b) || tracked(c) {
        push(Op::Three(Box::new(op)), &[a, b, c], &y, keep);
    }
    Ok(y)
}

impl Tape {
    /// Goes back from tensors whose gradients are known. Returns those of `wanted`, where there are any.
    pub fn backward(mut self, seeds: Vec<(&Tensor, Vec<f32>)>, wanted: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
        let mut gradients: HashMap<TensorId, Tensor> = HashMap::new();
        for (x, gradient) in seeds {
            let gradient = Tensor::from_vec(gradient, x.shape().clone(), x.device())?;
            self.add(&mut gradients, x.id(), gradient)?;
        }
        while let Some(node) = self.nodes.pop() {
            // What led nowhere has none.
            let Some(gradient) = gradients.remove(&node.result) else { continue };
            let parts = node.backward(&gradient)?;
            drop(gradient);
            for (id, part) in node.inputs.iter().zip(parts) {
                if let Some(part) = part.filter(|_| self.tracked.contains(id)) {
                    self.add(&mut gradients, *id, part)?;
                }
            }
        }
        Ok(wanted.iter().map(|x| gradients.remove(&x.id())).collect())
    }

    fn add(&self, gradients: &mut HashMap<TensorId, Tensor>, id: TensorId, part: Tensor) -> Result<()> {
        let sum = match gradients.remove(&id) {
            Some(sum) => super::add(&sum, &part)?,
            None => part,
        };
        gradients.insert(id, sum);
        Ok(())
    }
}

impl Node {
    fn backward(&self, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        // What is not kept is not read; the gradient stands in for it.
        let at = |i: usize| self.kept.get(i).unwrap_or(gradient);
        match &self.op {
            Op::One(op) => Ok(vec![op.bwd(at(0), at(1), gradient)?]),
            Op::Two(op) => {
                let (a, b) = op.bwd(at(0), at(1), at(2), gradient)?;
                Ok(vec![a, b])
            }
            Op::Three(op) => {
                let (a, b, c) = op.bwd(at(0), at(1), at(2), at(3), gradient)?;
                Ok(vec![a, b, c])
            }
        }
    }
}

/// A tensor's values, for a seed.
pub fn values_of(x: &Tensor) -> Result<Vec<f32>> {
    on_values(x, |values| Ok(values.to_vec())).map_err(ModelError::from)
}
