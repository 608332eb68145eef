//! `SwitchTransformersTop1Router`: a linear classifier over experts, in float32 unless the config says otherwise.

use std::borrow::Cow;

use candle_core::Tensor;
use switch_kernels::Routes;

use crate::config::{RouterDtype, SwitchTransformersConfig};
use crate::error::Result;
use crate::ops;
use crate::parameters::Parameters;
use crate::routing::{round_to, route, RoutingPolicy};
use crate::rows::Rows;
use crate::weight::Weight;

pub struct Router {
    classifier: Weight,
    /// The classifier as it is multiplied, where it is rounded and does not change.
    rounded: Option<Weight>,
    bias: Option<Weight>,
}

impl Router {
    /// From `{prefix}.weight` and, by config, `{prefix}.bias`.
    pub fn build(config: &SwitchTransformersConfig, parameters: &Parameters, prefix: &str) -> Result<Self> {
        let classifier = parameters.f32(&format!("{prefix}.weight"))?;
        let rounded = match config.router_dtype {
            RouterDtype::Float32 => None,
            _ if classifier.trainable().is_some() => None,
            dtype => Some(rounded(&classifier, dtype)?),
        };
        let bias = match config.router_bias {
            true => Some(parameters.f32(&format!("{prefix}.bias"))?),
            false => None,
        };
        Ok(Self { classifier, rounded, bias })
    }

    /// Router logits `[tokens, num_experts]` of `x` `[tokens, d_model]`, all in `dtype`.
    pub(crate) fn logits(&self, x: &Tensor, dtype: RouterDtype) -> Result<Tensor> {
        let weight = match (&self.rounded, dtype) {
            (_, RouterDtype::Float32) => Cow::Borrowed(&self.classifier),
            (Some(weight), _) => Cow::Borrowed(weight),
            (None, dtype) => Cow::Owned(rounded(&self.classifier, dtype)?),
        };
        let mut logits = ops::linear_of_rounded(&ops::round(x, dtype)?, &weight, &self.classifier)?;
        if let Some(bias) = &self.bias {
            logits = ops::add_bias(&logits, bias)?;
        }
        ops::round(&logits, dtype)
    }

    /// Logits, and where each token goes. `dtype`: the config's, or what a training computes routers in.
    pub fn forward(
        &self,
        x: &Tensor,
        rows: &Rows,
        config: &SwitchTransformersConfig,
        policy: &RoutingPolicy,
        dtype: RouterDtype,
    ) -> Result<(Tensor, Routes)> {
        let logits = self.logits(x, dtype)?;
        // On a device this waits for the logits; a layer in use, whose experts are there too, makes its decisions there.
        let routes = ops::on_values(&logits, |values| Ok(route(values, rows, config, policy, dtype)))??;
        Ok((logits, routes))
    }
}

fn rounded(weight: &Weight, dtype: RouterDtype) -> Result<Weight> {
    let mut values = weight.to_f32()?;
    round_to(dtype, &mut values);
    Weight::from_f32(values, weight.shape())
}
