//! What a forward pass leaves for its way back: the ops that ran, in order, each with what its backward pass reads.
//!
//! candle's own graph would do, at a price that was measured: it starts each gradient as zeros and adds to them through a
//! pool of threads that spins between calls (a third of a training step of a small model), and it keeps every tensor of a
//! pass until the end. Here a gradient's first part is the gradient, elementwise ops keep nothing, and what an op kept goes
//! as soon as its backward pass is done, for the next op to be written into (`buffers`).
//!
//! A tape records what runs on its thread while [`record`] does.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use candle_core::{CustomOp1, CustomOp2, CustomOp3, Tensor, TensorId};

use super::{buffers, on_values};
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
    Several(Box<dyn SeveralResults>),
}

/// The way back of an op of one input with several results, which candle's ops cannot have.
pub trait SeveralResults {
    /// The gradient of `x` from those of the results, in order; a result that led nowhere has none.
    fn bwd(&self, x: &Tensor, gradients: &[Option<&Tensor>]) -> candle_core::Result<Option<Tensor>>;
}

struct Node {
    op: Op,
    inputs: Vec<TensorId>,
    results: Vec<TensorId>,
    /// Inputs, then the result, as far as they are kept.
    kept: Vec<Tensor>,
}

/// The ops of a pass.
#[derive(Default)]
pub struct Tape {
    nodes: Vec<Node>,
    tracked: HashSet<TensorId>,
    /// Results of ops, whose memory is the tape's to give away.
    made: HashSet<TensorId>,
    /// How many nodes keep each tensor.
    kept: HashMap<TensorId, usize>,
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

fn push(op: Op, inputs: &[&Tensor], results: &[&Tensor], keep: Keep) {
    TAPE.with(|tape| {
        let mut tape = tape.borrow_mut();
        let Some(tape) = tape.as_mut() else { return };
        let mut kept = Vec::new();
        if keep != Keep::Nothing {
            kept.extend(inputs.iter().map(|x| (*x).clone()));
        }
        if keep == Keep::InputsAndResult {
            kept.extend(results.iter().map(|x| (*x).clone()));
        }
        for x in &kept {
            *tape.kept.entry(x.id()).or_default() += 1;
        }
        let ids = |of: &[&Tensor]| of.iter().map(|x| x.id()).collect::<Vec<_>>();
        let results = ids(results);
        tape.tracked.extend(&results);
        tape.made.extend(&results);
        tape.nodes.push(Node { op, inputs: ids(inputs), results, kept });
    });
}

/// Runs an op that is the beginning of what has gradients, whatever its input.
pub fn begin<C: 'static + CustomOp1>(x: &Tensor, op: C) -> Result<Tensor> {
    let y = x.apply_op1_no_bwd(&op)?;
    push(Op::One(Box::new(op)), &[x], &[&y], Keep::Nothing);
    Ok(y)
}

/// Runs an op of one input, recorded if the input is tracked.
pub fn apply1<C: 'static + CustomOp1>(x: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = x.apply_op1_no_bwd(&op)?;
    if tracked(x) {
        push(Op::One(Box::new(op)), &[x], &[&y], keep);
    }
    Ok(y)
}

/// The same of two inputs.
pub fn apply2<C: 'static + CustomOp2>(a: &Tensor, b: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = a.apply_op2_no_bwd(b, &op)?;
    if tracked(a) || tracked(b) {
        push(Op::Two(Box::new(op)), &[a, b], &[&y], keep);
    }
    Ok(y)
}

/// Records the results of an op on tracked `x`, which is kept.
pub fn recorded<C: 'static + SeveralResults>(x: &Tensor, op: C, results: &[Tensor]) {
    push(Op::Several(Box::new(op)), &[x], &results.iter().collect::<Vec<_>>(), Keep::Inputs);
}

/// Runs `in_place`, which writes the result of `op` over `b`, and records it as an op of `a` and `b`; but only where `b` is a
/// result on the tape that no op keeps. Returns whether it did.
pub fn apply_in_place<C: 'static + CustomOp2>(
    a: &Tensor,
    b: &Tensor,
    op: C,
    in_place: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let free = TAPE.with(|tape| {
        let tape = tape.borrow();
        let free = |tape: &Tape| tape.made.contains(&b.id()) && !tape.kept.contains_key(&b.id());
        tape.as_ref().is_some_and(free)
    });
    if !free || a.id() == b.id() {
        return Ok(false);
    }
    in_place()?;
    push(Op::Two(Box::new(op)), &[a, b], &[b], Keep::Nothing);
    Ok(true)
}

/// The same of three inputs.
pub fn apply3<C: 'static + CustomOp3>(a: &Tensor, b: &Tensor, c: &Tensor, op: C, keep: Keep) -> Result<Tensor> {
    let y = a.apply_op3_no_bwd(b, c, &op)?;
    if tracked(a) || tracked(b) || tracked(c) {
        push(Op::Three(Box::new(op)), &[a, b, c], &[&y], keep);
    }
    Ok(y)
}

/// A gradient, with as many handles as places it goes to.
type Gradient = Rc<Tensor>;

/// Keeps the memory of a gradient that goes nowhere else.
fn give(gradient: Gradient) {
    if let Ok(gradient) = Rc::try_unwrap(gradient) {
        buffers::give_tensor(&gradient);
    }
}

impl Tape {
    /// Goes back from tensors whose gradients are known. Returns those of `wanted`, where there are any.
    ///
    /// What ops kept is used again as soon as it has been read: results of recorded ops that the caller still holds lose
    /// their values, but for those with seeds.
    pub fn backward(mut self, seeds: Vec<(&Tensor, Vec<f32>)>, wanted: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
        let mut gradients: HashMap<TensorId, Gradient> = HashMap::new();
        for (x, gradient) in seeds {
            let gradient = Tensor::from_vec(gradient, x.shape().clone(), x.device())?;
            self.made.remove(&x.id());
            add(&mut gradients, x.id(), Rc::new(gradient))?;
        }
        while let Some(node) = self.nodes.pop() {
            // What led nowhere has none.
            let of_results: Vec<Option<Gradient>> = node.results.iter().map(|id| gradients.remove(id)).collect();
            if of_results.iter().any(Option::is_some) {
                for (id, part) in node.inputs.iter().zip(node.backward(&of_results)?) {
                    let Some(part) = part else { continue };
                    let same = of_results.iter().flatten().find(|gradient| gradient.id() == part.id());
                    let part = same.map_or_else(|| Rc::new(part), Rc::clone);
                    match self.tracked.contains(id) {
                        true => add(&mut gradients, *id, part)?,
                        false => give(part),
                    }
                }
                of_results.into_iter().flatten().for_each(give);
            }
            self.release(node);
        }
        let found = wanted.iter().map(|x| gradients.remove(&x.id()));
        Ok(found.map(|gradient| gradient.map(|gradient| gradient.as_ref().clone())).collect())
    }

    /// Keeps the memory of what nobody reads any more.
    fn release(&mut self, node: Node) {
        for x in node.kept {
            let Some(count) = self.kept.get_mut(&x.id()) else { continue };
            *count -= 1;
            if *count == 0 && self.made.remove(&x.id()) {
                buffers::give_tensor(&x);
            }
        }
    }
}

/// Adds to the gradient of a tensor, in place where one of the two goes nowhere else.
fn add(gradients: &mut HashMap<TensorId, Gradient>, id: TensorId, part: Gradient) -> Result<()> {
    let sum = match gradients.remove(&id) {
        None => part,
        Some(sum) if Rc::strong_count(&sum) == 1 => {
            super::add::add_to(&sum, &part)?;
            give(part);
            sum
        }
        Some(sum) if Rc::strong_count(&part) == 1 => {
            super::add::add_to(&part, &sum)?;
            part
        }
        Some(sum) => Rc::new(super::add(&sum, &part)?),
    };
    gradients.insert(id, sum);
    Ok(())
}

impl Node {
    fn backward(&self, gradients: &[Option<Gradient>]) -> Result<Vec<Option<Tensor>>> {
        if let Op::Several(op) = &self.op {
            let x = self.kept.first().ok_or_else(|| ModelError::internal("an op without its input"))?;
            return Ok(vec![op.bwd(x, &gradients.iter().map(Option::as_deref).collect::<Vec<_>>())?]);
        }
        let Some(gradient) = gradients.iter().flatten().next().map(Rc::as_ref) else { return Ok(Vec::new()) };
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
            Op::Several(_) => Ok(Vec::new()),
        }
    }
}

/// A tensor's values, for a seed.
pub fn values_of(x: &Tensor) -> Result<Vec<f32>> {
    on_values(x, |values| Ok(values.to_vec())).map_err(ModelError::from)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::{add_in_place, linear, linears};
    use crate::weight::Weight;

    const WIDTH: usize = 96;
    const TOKENS: usize = 64;

    fn weight(seed: usize) -> Weight {
        let values = (0..WIDTH * WIDTH).map(|i| ((i * 7 + seed * 13) % 31) as f32 / 310.0 - 0.05).collect();
        Weight::from_f32(values, &[WIDTH, WIDTH]).unwrap()
    }

    /// `y = x + w₀ · x`, and the gradient of `x` of the sum of three layers over `y`.
    fn run(in_place: bool) -> (Vec<f32>, Vec<f32>) {
        let values = (0..TOKENS * WIDTH).map(|i| (i % 17) as f32 / 17.0).collect();
        let x = Tensor::from_vec(values, (TOKENS, WIDTH), &Device::Cpu).unwrap();
        let ((y, out), tape) = record(|| {
            track(&x);
            let y = linear(&x, &weight(0))?;
            let y = if in_place { add_in_place(&x, y)? } else { super::super::add(&x, &y)? };
            let [a, b, c] = linears(&y, [&weight(1), &weight(2), &weight(3)])?;
            let out = super::super::add(&super::super::add(&a, &b)?, &c)?;
            Ok((values_of(&y)?, out))
        })
        .unwrap();
        let out_values = values_of(&out).unwrap();
        assert_eq!(out_values.len(), TOKENS * WIDTH);
        let gradients = tape.backward(vec![(&out, vec![1.0; TOKENS * WIDTH])], &[&x]).unwrap();
        assert_eq!(values_of(&out).unwrap(), out_values, "a tensor with a seed keeps its values");
        (y, values_of(gradients[0].as_ref().unwrap()).unwrap())
    }

    #[test]
    fn a_sum_in_place_is_a_sum_with_its_gradient() {
        let expected = run(false);
        for _ in 0..2 {
            assert_eq!(run(true), expected, "also in memory that is used again");
        }
        let w: Vec<Vec<f32>> = (0..4).map(|seed| weight(seed).to_f32().unwrap()).collect();
        // d out / d y, the same for every token: the column sums of the three weights.
        let column = |w: &[f32], j: usize| (0..WIDTH).map(|i| f64::from(w[i * WIDTH + j])).sum::<f64>();
        let dy: Vec<f64> = (0..WIDTH).map(|j| w[1..].iter().map(|w| column(w, j)).sum()).collect();
        for (j, found) in expected.1[..WIDTH].iter().enumerate() {
            let through = (0..WIDTH).map(|i| dy[i] * f64::from(w[0][i * WIDTH + j])).sum::<f64>();
            assert!((f64::from(*found) - dy[j] - through).abs() < 1e-4, "{found} at {j}");
        }
    }
}
