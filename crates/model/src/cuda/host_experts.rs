//! Experts that stay in host memory while the rest of a model is on a device: computed there, or copied as they are chosen.

use std::time::Instant;

use candle_core::{Device, Tensor};
use switch_kernels::Routes;

use super::experts::{sparse_with, Routed, Table};
use super::run::device_of;
use crate::config::FeedForwardActivation;
use crate::error::Result;
use crate::layers::ExpertBank;
use crate::ops;

/// Tokens of the longer of two measured runs.
const TOKENS: usize = 16;

/// What a measurement at load found, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostExperts {
    /// To copy one expert to the device.
    pub copy: f64,
    /// To compute one expert on the host: once, and for each of its tokens.
    pub compute: f64,
    pub compute_token: f64,
}

impl HostExperts {
    /// Whether `experts` experts with `tokens` tokens in all are copied rather than computed where they are.
    /// `SWITCH_CUDA_EXPERTS=copy` and `compute` decide for good.
    fn copies(&self, experts: usize, tokens: usize) -> bool {
        match std::env::var("SWITCH_CUDA_EXPERTS").as_deref() {
            Ok("copy") => true,
            Ok("compute") => false,
            _ => {
                let computed = experts as f64 * self.compute + tokens as f64 * self.compute_token;
                experts as f64 * self.copy < computed
            }
        }
    }

    /// Measures on the first expert of a model.
    pub fn measure(bank: &ExpertBank, device: &Device, act: FeedForwardActivation) -> Result<Self> {
        let nothing = Self { copy: 0.0, compute: 0.0, compute_token: 0.0 };
        let Device::Cuda(cuda) = device else { return Ok(nothing) };
        let Ok(expert) = bank.expert(0, 0) else { return Ok(nothing) };
        let weights = expert.weights()?;
        let width = weights.wi.cols;
        let best = |mut f: Box<dyn FnMut() -> Result<()> + '_>| -> Result<f64> {
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                f()?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            Ok(best)
        };
        let compute = |tokens: usize| {
            let x = vec![0.5f32; tokens * width];
            let mut y = vec![0f32; tokens * width];
            best(Box::new(move || {
                Ok(switch_kernels::feed_forward(&x, tokens, width, &weights, act.activation, &mut y)?)
            }))
        };
        let (one, many) = (compute(1)?, compute(TOKENS)?);
        let compute_token = ((many - one) / (TOKENS - 1) as f64).max(0.0);
        let (wi, wi_1, wo) = expert.matrices();
        let copy = best(Box::new(|| {
            let mut held = Vec::new();
            for weight in [Some(wi), wi_1, Some(wo)].into_iter().flatten() {
                held.push(super::weights::passing(cuda, weight.values())?);
            }
            cuda.cuda_stream().synchronize().map_err(|e| super::errors::of_driver(&e, "measuring copies"))
        }))?;
        Ok(Self { copy, compute: (one - compute_token).max(0.0), compute_token })
    }
}

/// A sparse layer whose experts are on the host. `x` `[tokens, d_model]` and `logits` are on the device.
pub fn sparse_from_host(
    x: &Tensor,
    logits: &Tensor,
    routed: &Routed<'_>,
    routes: &Routes,
    how: &HostExperts,
    act: FeedForwardActivation,
) -> Result<Tensor> {
    let mut chosen: Vec<usize> = routes.expert.iter().filter_map(|expert| usize::try_from(*expert).ok()).collect();
    let tokens = chosen.len();
    chosen.sort_unstable();
    chosen.dedup();
    if how.copies(chosen.len(), tokens) {
        let device = device_of(x)?;
        let table = Table::passing(&device, routed.bank, routed.layer, logits.dim(1)?, &chosen)?;
        return sparse_with(x, logits, routed, table);
    }
    let y = ops::sparse_feed_forward(&x.to_device(&Device::Cpu)?, routed.bank, routed.layer, routes, act)?;
    Ok(y.to_device(x.device())?)
}
