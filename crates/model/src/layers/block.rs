//! One layer of a stack: self-attention, in the decoder cross-attention, and a dense or sparse feed-forward.

use std::sync::Arc;

use candle_core::Tensor;
use switch_kernels::training::Dropout;

use super::attention::{Attention, CrossKeyValues, CrossRows, HeldLayer};
use super::{BiasSpan, ExpertBank, FeedForward, SparseMlp};
use crate::cache::{DecoderCache, Segment};
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::ops::{self, buffers};
use crate::parameters::Parameters;
use crate::profile::{measure, Part};
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::trace::Trace;
use crate::training::{LayerPass, Site, TrainingPass};
use crate::weight::Weight;

enum Mlp {
    Dense(FeedForward),
    Sparse(SparseMlp),
}

pub struct Block {
    self_attention: Attention,
    self_norm: Weight,
    cross: Option<(Attention, Weight)>,
    mlp: Mlp,
    mlp_norm: Weight,
    eps: f32,
}

/// What every block of a pass shares.
pub struct BlockInput<'a> {
    pub rows: &'a Rows,
    pub bias: &'a Arc<BiasSpan>,
    pub config: &'a Arc<SwitchTransformersConfig>,
    pub policy: &'a RoutingPolicy,
    pub bank: &'a Arc<ExpertBank>,
    /// The decoder's encoder rows; `None` in the encoder.
    pub cross: Option<(CrossRows<'a>, &'a [CrossKeyValues])>,
    /// Noise, in training.
    pub training: Option<&'a TrainingPass>,
}

impl<'a> BlockInput<'a> {
    /// The training pass as layer `index` sees it.
    fn layer(&self, index: usize) -> Option<LayerPass<'a>> {
        self.training.map(|pass| LayerPass { pass, decoder: self.cross.is_some(), index })
    }
}

impl Block {
    /// From `{prefix}.N.…`, where N counts the sub-layers.
    pub fn build(
        config: &SwitchTransformersConfig,
        parameters: &Parameters,
        prefix: &str,
        decoder: bool,
        sparse: bool,
        bank: &mut ExpertBank,
    ) -> Result<Self> {
        let cross = if decoder {
            let attention = Attention::build(config, parameters, &format!("{prefix}.1.EncDecAttention"))?;
            Some((attention, parameters.f32(&format!("{prefix}.1.layer_norm.weight"))?))
        } else {
            None
        };
        let last = format!("{prefix}.{}", if decoder { 2 } else { 1 });
        let mlp = if sparse {
            Mlp::Sparse(SparseMlp::build(config, parameters, &format!("{last}.mlp."), bank)?)
        } else {
            Mlp::Dense(FeedForward::build(config, parameters, &format!("{last}.mlp"))?)
        };
        Ok(Self {
            self_attention: Attention::build(config, parameters, &format!("{prefix}.0.SelfAttention"))?,
            self_norm: parameters.f32(&format!("{prefix}.0.layer_norm.weight"))?,
            cross,
            mlp,
            mlp_norm: parameters.f32(&format!("{last}.layer_norm.weight"))?,
            eps: config.layer_norm_epsilon as f32,
        })
    }

    /// `x` `[tokens, d_model]`. With `cache` (its `layer`, segments and state), self-attention runs over the cache.
    pub fn forward(
        &self,
        x: &Tensor,
        input: &BlockInput<'_>,
        layer: usize,
        cache: Option<(&mut DecoderCache, &[Segment])>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let training = input.layer(layer);
        let noise = |site| training.map_or(Dropout::NONE, |layer| layer.dropout(site));
        let normed = ops::rms_norm(x, &self.self_norm, self.eps)?;
        let record = trace.want_attentions.then_some(&mut trace.attentions);
        let attended = measure(Part::Attention, || match cache {
            Some((cache, segments)) => {
                let caches =
                    cache.layers.get_mut(layer).ok_or_else(|| ModelError::internal("the cache lacks a layer"))?;
                let held = HeldLayer {
                    segments,
                    caches,
                    masks: &cache.masks,
                    #[cfg(feature = "cuda")]
                    device: cache.device.layers.get(layer),
                };
                self.self_attention.cached(&normed, input.rows, held, input.bias, record)
            }
            None => {
                let (causal, dropout) = (input.cross.is_some(), noise(Site::SelfProbabilities));
                self.self_attention.forward(&normed, input.rows, causal, input.bias, dropout, record)
            }
        })?;
        buffers::recycle(normed);
        let mut x = ops::add_in_place(x, ops::dropout(&attended, noise(Site::SelfAttention))?)?;
        if let (Some((attention, norm)), Some((rows, key_values))) = (&self.cross, &input.cross) {
            let normed = ops::rms_norm(&x, norm, self.eps)?;
            let key_values =
                key_values.get(layer).ok_or_else(|| ModelError::internal("cross-attention lacks a layer"))?;
            let record = trace.want_cross_attentions.then_some(&mut trace.cross_attentions);
            let dropout = noise(Site::CrossProbabilities);
            let attended =
                measure(Part::Attention, || attention.cross(&normed, input.rows, rows, key_values, dropout, record))?;
            buffers::recycle(normed);
            let sum = ops::add_in_place(&x, ops::dropout(&attended, noise(Site::CrossAttention))?)?;
            buffers::recycle(std::mem::replace(&mut x, sum));
        }
        let normed = ops::rms_norm(&x, &self.mlp_norm, self.eps)?;
        let y = match (&self.mlp, training) {
            (Mlp::Dense(weights), None) => {
                measure(Part::FeedForward, || ops::feed_forward(&normed, weights, input.config.activation))?
            }
            (Mlp::Dense(weights), Some(_)) => {
                ops::trained_feed_forward(&normed, weights, input.config.activation, noise(Site::Hidden))?
            }
            (Mlp::Sparse(mlp), training) => {
                mlp.forward(&normed, input.rows, input.config, input.policy, input.bank, training, trace)?
            }
        };
        buffers::recycle(normed);
        let sum = ops::add_in_place(&x, ops::dropout(&y, noise(Site::FeedForward))?)?;
        buffers::recycle(x);
        Ok(sum)
    }

    /// What the cross-attention makes keys and values by.
    pub fn key_value_weights(&self) -> Option<[&Weight; 2]> {
        self.cross.as_ref().map(|(attention, _)| attention.key_value_weights())
    }

    /// The cross-attention's keys and values of the encoder's output.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> Result<CrossKeyValues> {
        match &self.cross {
            Some((attention, _)) => attention.cross_key_values(encoder_hidden_states),
            None => Err(ModelError::internal("an encoder block has no cross-attention")),
        }
    }
}
