//! Feed-forward layers: the dense one, and the grouped one whose experts each take the tokens routed to them.

use crate::activation::{activate, Activation};
use crate::error::{expect_len, product, KernelError};
use crate::linear::linear;
use crate::matrix::Matrix;
use crate::route::Routes;

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
    expect_len("feed-forward input elements", x.len(), product("feed-forward input", n, d)?)?;
    expect_len("feed-forward output elements", out.len(), x.len())?;
    weights.check(d)?;
    let mut hidden = vec![0.0; product("feed-forward hidden states", n, weights.wi.rows)?];
    linear(x, n, weights.wi, &mut hidden)?;
    activate(act, &mut hidden);
    if let Some(wi_1) = weights.wi_1 {
        let mut gate = vec![0.0; hidden.len()];
        linear(x, n, wi_1, &mut gate)?;
        for (h, g) in hidden.iter_mut().zip(gate) {
            *h *= g;
        }
    }
    linear(&hidden, n, weights.wo, out)
}

/// `out[t] = routes.weight[t] · expert(x[t])` for the expert that token `t` is routed to, 0 for tokens that go nowhere.
///
/// `x` and `out` are `[n, d]`; `expert` gives the weights of an expert that has tokens, once each, and its errors are
/// returned. On error `out` may be partly written.
pub fn experts<'a>(
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
    out.fill(0.0);
    for (index, tokens) in tokens_by_expert(routes)? {
        let weights = expert(index)?;
        let mut gathered = Vec::with_capacity(tokens.len() * d);
        for &token in &tokens {
            gathered.extend_from_slice(&x[token * d..(token + 1) * d]);
        }
        let mut result = vec![0.0; gathered.len()];
        feed_forward(&gathered, tokens.len(), d, &weights, act, &mut result)?;
        for (&token, result) in tokens.iter().zip(result.chunks_exact(d.max(1))) {
            for (out, y) in out[token * d..(token + 1) * d].iter_mut().zip(result) {
                *out = y * routes.weight[token];
            }
        }
    }
    Ok(())
}

/// The experts that have tokens, in order, each with its tokens in order.
fn tokens_by_expert(routes: &Routes) -> Result<Vec<(usize, Vec<usize>)>, KernelError> {
    let mut groups: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
    for (token, &expert) in routes.expert.iter().enumerate() {
        match usize::try_from(expert) {
            Ok(expert) => groups.entry(expert).or_default().push(token),
            Err(_) if expert == -1 => {}
            Err(_) => return Err(KernelError::Route { token, expert }),
        }
    }
    Ok(groups.into_iter().collect())
}
