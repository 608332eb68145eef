//! A low-rank adapter (Hu et al., arXiv 2106.09685): `W + scale · B · A`, `W` as it was. The sum is kept ready in the
//! weight's values, so that layers, evaluation and generation read one matrix; only A and B have gradients.

use switch_kernels::training::{linear_backward_input, linear_backward_weight};
use switch_kernels::{linear_with, Matrix, Precision, Values};

use super::trainable::Gradient;
use crate::adapters::add_low_rank;
use crate::error::Result;
use crate::weight::{try_zeros, Weight};

pub struct Adapter {
    /// The weight without the adapter.
    pub base: Weight,
    pub rank: usize,
    /// `alpha / rank`.
    pub scale: f32,
    /// `[rank, in_features]`.
    pub a: Vec<f32>,
    /// `[out_features, rank]`; zero at first, so that training starts from the base.
    pub b: Vec<f32>,
    pub a_gradient: Gradient,
    pub b_gradient: Gradient,
}

impl Adapter {
    fn dims(&self) -> (usize, usize) {
        (self.b.len() / self.rank.max(1), self.a.len() / self.rank.max(1))
    }

    /// Adds the gradients of A and B from `dy` `[n, out_features]` and `x` `[n, in_features]`, without the whole matrix's.
    pub fn add_linear(&mut self, precision: Precision, dy: &[f32], x: &[f32], n: usize) -> Result<()> {
        let (rows, cols) = self.dims();
        let rank = self.rank;
        let mut low = try_zeros(n * rank)?;
        linear_with(precision, x, n, Matrix::new(Values::F32(&self.a), rank, cols)?, &mut low)?;
        let db = self.b_gradient.start(rows * rank)?;
        linear_backward_weight(precision, dy, &low, n, rows, rank, self.scale, db)?;
        linear_backward_input(precision, dy, n, Matrix::new(Values::F32(&self.b), rows, rank)?, &mut low)?;
        let da = self.a_gradient.start(rank * cols)?;
        Ok(linear_backward_weight(precision, &low, x, n, rank, cols, self.scale, da)?)
    }

    pub fn clear(&mut self) {
        self.a_gradient.clear();
        self.b_gradient.clear();
    }

    /// Writes `base + scale · B · A` into `values`.
    pub fn merge_into(&self, values: &mut [f32]) -> Result<()> {
        self.base.read_f32(0, values)?;
        add_low_rank(values, &self.a, &self.b, self.rank, self.scale);
        Ok(())
    }
}
