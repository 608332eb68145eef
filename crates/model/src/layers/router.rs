//! `SwitchTransformersTop1Router`: a linear classifier over experts, in float32 unless the config says otherwise.

use candle_core::{Device, Tensor};
use switch_kernels::Routes;

use crate::config::SwitchTransformersConfig;
use crate::error::Result;
use crate::ops;
use crate::parameters::Parameters;
use crate::routing::{round_to, route, RoutingPolicy};
use crate::rows::Rows;
use crate::weight::Weight;

pub struct Router {
    classifier: Weight,
    bias: Option<Vec<f32>>,
}

impl Router {
    /// From `{prefix}.weight` and, by config, `{prefix}.bias`.
    pub fn build(config: &SwitchTransformersConfig, parameters: &Parameters, prefix: &str) -> Result<Self> {
        let mut weight = parameters.f32(&format!("{prefix}.weight"))?;
        round_to(config.router_dtype, &mut weight);
        let bias = match config.router_bias {
            true => Some(parameters.f32(&format!("{prefix}.bias"))?),
            false => None,
        };
        Ok(Self { classifier: Weight::from_f32(weight, &[config.num_experts, config.d_model])?, bias })
    }

    /// Router logits `[tokens, num_experts]` of `x` `[tokens, d_model]`.
    pub fn logits(&self, x: &Tensor, config: &SwitchTransformersConfig) -> Result<Tensor> {
        let selective = config.router_dtype == crate::config::RouterDtype::Float32;
        let x = if selective { x.clone() } else { rounded(x, config)? };
        let mut logits = ops::linear(&x, &self.classifier)?;
        if let Some(bias) = &self.bias {
            logits = logits.broadcast_add(&Tensor::from_slice(bias, bias.len(), &Device::Cpu)?)?;
        }
        if selective {
            Ok(logits)
        } else {
            rounded(&logits, config)
        }
    }

    /// Logits, and where each token goes.
    pub fn forward(
        &self,
        x: &Tensor,
        rows: &Rows,
        config: &SwitchTransformersConfig,
        policy: &RoutingPolicy,
    ) -> Result<(Tensor, Routes)> {
        let logits = self.logits(x, config)?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let routes = route(&values, rows, config, policy)?;
        Ok((logits, routes))
    }
}

fn rounded(x: &Tensor, config: &SwitchTransformersConfig) -> Result<Tensor> {
    let mut values = x.flatten_all()?.to_vec1::<f32>()?;
    round_to(config.router_dtype, &mut values);
    Ok(Tensor::from_vec(values, x.dims(), &Device::Cpu)?)
}
