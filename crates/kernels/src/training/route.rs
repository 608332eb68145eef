//! The way back through the gate of top-1 routing.

use crate::error::{expect_len, product, KernelError};
use crate::parallel;
use crate::route::Routes;

/// `dlogits[t, e] += dgate[t] · p[chosen] · (δ(e, chosen) - p[e])` with `p` the softmax of the token's logits, for tokens
/// that go to an expert; the others add nothing. `logits` and `dlogits` are `[tokens, experts]`.
pub fn route_backward(
    logits: &[f32],
    experts: usize,
    routes: &Routes,
    dgate: &[f32],
    dlogits: &mut [f32],
) -> Result<(), KernelError> {
    if experts == 0 {
        return Err(KernelError::Dimension { what: "experts", expected: "1 or more", found: 0 });
    }
    let tokens = routes.expert.len();
    expect_len("router logits", logits.len(), product("router logits", tokens, experts)?)?;
    expect_len("router logits' gradient elements", dlogits.len(), logits.len())?;
    expect_len("gates' gradient elements", dgate.len(), tokens)?;
    for (token, &expert) in routes.expert.iter().enumerate() {
        match usize::try_from(expert) {
            Ok(expert) if expert < experts => {}
            Ok(found) => {
                let expected = "less than the number of experts";
                return Err(KernelError::Dimension { what: "expert of a routed token", expected, found });
            }
            Err(_) if expert == -1 => {}
            Err(_) => return Err(KernelError::Route { token, expert }),
        }
    }
    parallel::for_each_row_chunk(dlogits, experts, GRAIN.div_ceil(experts), |first, dlogits| {
        let rows = logits[first * experts..].chunks_exact(experts).zip(dlogits.chunks_exact_mut(experts));
        back(&routes.expert[first..], &dgate[first..], rows);
    });
    Ok(())
}

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 1024;

fn back<'a>(experts: &[i32], dgate: &[f32], rows: impl Iterator<Item = (&'a [f32], &'a mut [f32])>) {
    for ((&expert, &dgate), (logits, dlogits)) in experts.iter().zip(dgate).zip(rows) {
        let Ok(expert) = usize::try_from(expert) else { continue };
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Through f64, as the gate itself: see `choose` in `route.rs`.
        let exp = |logit: f32| f64::from(logit - max).exp() as f32;
        let sum: f32 = logits.iter().map(|&logit| exp(logit)).sum();
        let factor = dgate * (exp(logits[expert]) / sum);
        for (e, (to, &logit)) in dlogits.iter_mut().zip(logits).enumerate() {
            *to += factor * (f32::from(u8::from(e == expert)) - exp(logit) / sum);
        }
    }
}
