//! Linear layers over the same input with a way back: one op, so that the input is made ready once for all of them, forwards
//! and for their weights' gradients, and its own gradient is one sum.

use candle_core::Tensor;
use switch_kernels::training::{linears_backward_input, linears_train};
use switch_kernels::Matrix;

use super::tape::{recorded, SeveralResults};
use super::{buffers, flat_dims, kernel_error, model_error, on_values};
use crate::error::Result;
use crate::training::add_linears;
use crate::weight::Weight;

struct TrainedLinears {
    /// Of one shape and precision.
    weights: Vec<Weight>,
}

impl TrainedLinears {
    fn matrices(&self) -> candle_core::Result<Vec<Matrix<'_>>> {
        self.weights.iter().map(|w| w.matrix().map_err(model_error)).collect()
    }
}

/// Calls `f` with the values of all tensors, after those at hand.
fn on_all(
    tensors: &[&Tensor],
    at_hand: &[&[f32]],
    f: &mut dyn FnMut(&[&[f32]]) -> candle_core::Result<()>,
) -> candle_core::Result<()> {
    let Some((first, rest)) = tensors.split_first() else { return f(at_hand) };
    on_values(first, |first| {
        let all: Vec<&[f32]> = at_hand.iter().copied().chain([first]).collect();
        on_all(rest, &all, f)
    })
}

impl SeveralResults for TrainedLinears {
    fn bwd(&self, x: &Tensor, gradients: &[Option<&Tensor>]) -> candle_core::Result<Option<Tensor>> {
        let (tokens, width) = x.dims2()?;
        let learning: Vec<(&Weight, &Tensor)> =
            self.weights.iter().zip(gradients).filter_map(|(w, gradient)| Some((w, (*gradient)?))).collect();
        let weights: Vec<&Weight> = learning.iter().map(|(weight, _)| *weight).collect();
        let tensors: Vec<&Tensor> = learning.iter().map(|(_, gradient)| *gradient).collect();
        let matrices =
            weights.iter().map(|w| w.matrix().map_err(model_error)).collect::<candle_core::Result<Vec<_>>>()?;
        let precision = self.weights.first().map(Weight::precision).unwrap_or_default();
        let mut dx = buffers::take(tokens * width).map_err(model_error)?;
        on_all(&tensors, &[], &mut |dys| {
            linears_backward_input(precision, dys, tokens, &matrices, &mut dx).map_err(kernel_error)?;
            on_values(x, |x| add_linears(&weights, dys, x, tokens).map_err(model_error))
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape().clone(), x.device())?))
    }
}

/// Tracked `x` `[tokens, in_features]` through each of `weights`, of one shape and precision.
pub(super) fn trained_linears(x: &Tensor, weights: Vec<Weight>) -> Result<Vec<Tensor>> {
    let (tokens, _) = flat_dims(x)?;
    let op = TrainedLinears { weights };
    let matrices = op.matrices()?;
    let precision = op.weights.first().map(Weight::precision).unwrap_or_default();
    let shapes = matrices.iter().map(|matrix| matrix.rows);
    let mut results = shapes.clone().map(|rows| buffers::take(tokens * rows)).collect::<Result<Vec<_>>>()?;
    let mut ys: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    on_values(x, |x| linears_train(precision, x, tokens, &matrices, &mut ys).map_err(kernel_error))?;
    let tensor = |(y, rows): (Vec<f32>, usize)| Ok(Tensor::from_vec(y, (tokens, rows), x.device())?);
    let results = results.into_iter().zip(shapes).map(tensor).collect::<Result<Vec<_>>>()?;
    recorded(x, op, &results);
    Ok(results)
}
