//! Feed-forward weights, the bank that hands out experts, and the sparse layer over it.

use std::sync::Arc;

use candle_core::Tensor;
use switch_kernels::ExpertWeights;

use super::Router;
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::ops;
use crate::parameters::Parameters;
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::trace::Trace;
use crate::weight::Weight;

/// `wi`, `wo`, or `wi_0`, `wi_1`, `wo` in the gated form (reference: `SwitchTransformersDenseActDense`).
pub struct FeedForward {
    wi: Weight,
    wi_1: Option<Weight>,
    wo: Weight,
}

impl FeedForward {
    pub fn build(config: &SwitchTransformersConfig, parameters: &Parameters, prefix: &str) -> Result<Self> {
        let get = |name: &str| parameters.get(&format!("{prefix}.{name}.weight"));
        let gated = config.activation.gated;
        Ok(Self {
            wi: get(if gated { "wi_0" } else { "wi" })?,
            wi_1: if gated { Some(get("wi_1")?) } else { None },
            wo: get("wo")?,
        })
    }

    /// The matrices, as the kernels read them.
    pub fn weights(&self) -> Result<ExpertWeights<'_>> {
        Ok(ExpertWeights {
            wi: self.wi.matrix()?,
            wi_1: self.wi_1.as_ref().map(Weight::matrix).transpose()?,
            wo: self.wo.matrix()?,
        })
    }
}

/// Every expert of a model, by sparse layer and index. Layers ask it and never hold experts themselves, so that a bank
/// that fetches and evicts can take its place.
#[derive(Default)]
pub struct ExpertBank {
    layers: Vec<Vec<FeedForward>>,
}

impl ExpertBank {
    /// Adds a layer's experts and says under which number.
    pub fn push_layer(&mut self, experts: Vec<FeedForward>) -> usize {
        self.layers.push(experts);
        self.layers.len() - 1
    }

    pub fn expert(&self, layer: usize, index: usize) -> Result<&FeedForward> {
        self.layers
            .get(layer)
            .and_then(|experts| experts.get(index))
            .ok_or_else(|| ModelError::internal(format!("no expert {index} in sparse layer {layer}")))
    }
}

/// `SwitchTransformersSparseMLP`.
pub struct SparseMlp {
    pub router: Router,
    layer: usize,
}

impl SparseMlp {
    /// From `{prefix}router.…` and `{prefix}experts.…`; the experts go to `bank`.
    pub fn build(
        config: &SwitchTransformersConfig,
        parameters: &Parameters,
        prefix: &str,
        bank: &mut ExpertBank,
    ) -> Result<Self> {
        let experts = (0..config.num_experts)
            .map(|e| FeedForward::build(config, parameters, &format!("{prefix}experts.expert_{e}")))
            .collect::<Result<Vec<_>>>()?;
        let router = Router::build(config, parameters, &format!("{prefix}router.classifier"))?;
        Ok(Self { router, layer: bank.push_layer(experts) })
    }

    /// `x` `[tokens, d_model]` through the experts that the router chose.
    pub fn forward(
        &self,
        x: &Tensor,
        rows: &Rows,
        config: &SwitchTransformersConfig,
        policy: &RoutingPolicy,
        bank: &Arc<ExpertBank>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let (logits, routes) = self.router.forward(x, rows, config, policy)?;
        let y = ops::sparse_feed_forward(x, bank, self.layer, &routes, config.activation)?;
        trace.router(&logits, &routes);
        Ok(y)
    }
}
