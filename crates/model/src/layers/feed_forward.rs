//! Feed-forward weights, the bank that hands out experts, and the sparse layer over it.

use std::sync::Arc;

use candle_core::Tensor;
use switch_kernels::training::FeedForwardPart;
use switch_kernels::{ExpertWeights, Precision};

use super::Router;
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::ops;
use crate::parameters::Parameters;
use crate::profile::{measure, measure_experts, Part};
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::trace::Trace;
use crate::training::{LayerPass, Site};
use crate::weight::Weight;

/// `wi`, `wo`, or `wi_0`, `wi_1`, `wo` in the gated form (reference: `SwitchTransformersDenseActDense`).
#[derive(Clone)]
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

    /// `wi`, `wi_1` where the layer is gated, and `wo`.
    #[cfg(feature = "cuda")]
    pub(crate) fn matrices(&self) -> (&Weight, Option<&Weight>, &Weight) {
        (&self.wi, self.wi_1.as_ref(), &self.wo)
    }

    /// One of the matrices; none for `wi_1` where the layer is not gated.
    pub fn part(&self, part: FeedForwardPart) -> Option<&Weight> {
        match part {
            FeedForwardPart::Wi => Some(&self.wi),
            FeedForwardPart::Wi1 => self.wi_1.as_ref(),
            FeedForwardPart::Wo => Some(&self.wo),
        }
    }

    /// What operands may be rounded to.
    pub fn precision(&self) -> Precision {
        self.wi.precision()
    }
}

/// Every expert of a model, by sparse layer and index. Layers ask it and never hold experts themselves, so that a bank
/// that fetches and evicts can take its place.
#[derive(Default)]
pub struct ExpertBank {
    layers: Vec<Vec<FeedForward>>,
    #[cfg(feature = "cuda")]
    cuda: crate::cuda::ExpertTables,
    /// Where the experts of a model on a device stay on the host: how fast they are where.
    #[cfg(feature = "cuda")]
    on_host: Option<crate::cuda::HostExperts>,
}

impl ExpertBank {
    /// Where the experts lie on a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_tables(&self) -> &crate::cuda::ExpertTables {
        &self.cuda
    }

    /// Leaves the experts in host memory, whatever the rest of the model computes on.
    #[cfg(feature = "cuda")]
    pub(crate) fn keep_on_host(
        &mut self,
        device: &candle_core::Device,
        act: crate::config::FeedForwardActivation,
    ) -> Result<()> {
        self.on_host = Some(crate::cuda::HostExperts::measure(self, device, act)?);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn on_host(&self) -> Option<&crate::cuda::HostExperts> {
        self.on_host.as_ref()
    }

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

    /// `x` `[tokens, d_model]` through the experts that the router chose. `training` says which layer this is.
    #[allow(clippy::too_many_arguments)] // each is one of the pass's own inputs
    pub fn forward(
        &self,
        x: &Tensor,
        rows: &Rows,
        config: &SwitchTransformersConfig,
        policy: &RoutingPolicy,
        bank: &Arc<ExpertBank>,
        training: Option<LayerPass<'_>>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() && training.is_none() {
            let dtype = config.router_dtype;
            let want_routes = trace.want_routes;
            let layer = self.layer;
            let routed = crate::cuda::Routed { rows, config, policy, dtype, bank, layer, want_routes };
            if let Some(how) = bank.on_host() {
                let (logits, routes) = self.router.forward(x, rows, config, policy, dtype)?;
                trace.router(&logits, &routes);
                return crate::cuda::sparse_from_host(x, &logits, &routed, &routes, how, config.activation);
            }
            let logits = self.router.logits(x, dtype)?;
            let (y, routes) = crate::cuda::sparse(x, &logits, &routed)?;
            trace.router(&logits, &routes.unwrap_or_default());
            return Ok(y);
        }
        let Some(layer) = training else {
            let (logits, routes) =
                measure(Part::Routing, || self.router.forward(x, rows, config, policy, config.router_dtype))?;
            trace.router(&logits, &routes);
            return measure_experts(self.layer, config.num_experts, &routes.expert, || {
                ops::sparse_feed_forward(x, bank, self.layer, &routes, config.activation)
            });
        };
        let dtype = layer.pass.router_dtype.unwrap_or(config.router_dtype);
        let input = ops::jitter(x, layer.pass.router_jitter_noise, layer.seed(Site::Router))?;
        let (logits, routes) = self.router.forward(&input, rows, config, policy, dtype)?;
        trace.router(&logits, &routes);
        let dropout = layer.pass.expert_dropout(layer.decoder, layer.index);
        ops::trained_sparse_feed_forward(x, &logits, bank, self.layer, &routes, config.activation, dropout)
    }
}
