//! The encoder and the decoder (reference: `SwitchTransformersStack`).

use std::sync::Arc;

use candle_core::Tensor;

use crate::cache::{DecoderCache, Segment};
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::layers::{Block, BlockInput, CrossKeyValues, CrossRows, ExpertBank, PositionBias};
use crate::ops::{self, buffers};
use crate::parameters::Parameters;
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::trace::Trace;
use crate::training::{checkpointed, LayerPass, Site, TrainingPass};
use crate::weight::Weight;

pub struct Stack {
    blocks: Vec<Arc<Block>>,
    bias: PositionBias,
    final_norm: Weight,
    decoder: bool,
    eps: f32,
    config: Arc<SwitchTransformersConfig>,
}

/// A decoder pass over a cache.
pub struct CachedPass<'a> {
    pub cache: &'a mut DecoderCache,
    pub segments: &'a [Segment],
}

impl Stack {
    pub fn build(
        config: &Arc<SwitchTransformersConfig>,
        parameters: &Parameters,
        decoder: bool,
        bank: &mut ExpertBank,
    ) -> Result<Self> {
        let (name, sparse) = match decoder {
            false => ("encoder", &config.sparse_encoder_layers),
            true => ("decoder", &config.sparse_decoder_layers),
        };
        let blocks = sparse
            .iter()
            .enumerate()
            .map(|(i, s)| {
                Block::build(config, parameters, &format!("{name}.block.{i}.layer"), decoder, *s, bank).map(Arc::new)
            })
            .collect::<Result<Vec<_>>>()?;
        let bias = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        Ok(Self {
            blocks,
            bias: PositionBias::build(config, parameters, &bias, !decoder)?,
            final_norm: parameters.f32(&format!("{name}.final_layer_norm.weight"))?,
            decoder,
            eps: config.layer_norm_epsilon as f32,
            config: Arc::clone(config),
        })
    }

    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// The encoder over `x` `[tokens, d_model]`.
    #[allow(clippy::too_many_arguments)] // each is one of the pass's own inputs
    pub fn encode(
        &self,
        x: Tensor,
        rows: &Rows,
        policy: &RoutingPolicy,
        bank: &Arc<ExpertBank>,
        training: Option<&TrainingPass>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let bias = self.bias.span(rows.lens().iter().copied().max().unwrap_or(0))?;
        let input = BlockInput { rows, bias: &bias, config: &self.config, policy, bank, cross: None, training };
        self.run(x, &input, None, trace)
    }

    /// The decoder over `x`; row `i` reads encoder row `cross.row_of[i]`.
    #[allow(clippy::too_many_arguments)] // each is one of the pass's own inputs, and a struct would only rename them
    pub fn decode(
        &self,
        x: Tensor,
        rows: &Rows,
        cross: CrossRows<'_>,
        key_values: &[CrossKeyValues],
        cached: Option<CachedPass<'_>>,
        policy: &RoutingPolicy,
        bank: &Arc<ExpertBank>,
        training: Option<&TrainingPass>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let longest = match &cached {
            Some(pass) => pass.segments.iter().map(|s| s.past + s.len).max(),
            None => rows.lens().iter().copied().max(),
        };
        let bias = self.bias.span(longest.unwrap_or(0))?;
        let cross = Some((cross, key_values));
        let input = BlockInput { rows, bias: &bias, config: &self.config, policy, bank, cross, training };
        self.run(x, &input, cached, trace)
    }

    fn run(
        &self,
        mut x: Tensor,
        input: &BlockInput<'_>,
        mut cached: Option<CachedPass<'_>>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        if x.dim(0)? != input.rows.tokens() {
            return Err(ModelError::internal(format!("{} vectors for {} tokens", x.dim(0)?, input.rows.tokens())));
        }
        let outside = |site| {
            input.training.map(|pass| LayerPass { pass, decoder: self.decoder, index: 0 }).map(|l| l.dropout(site))
        };
        if let Some(dropout) = outside(Site::StackInput) {
            x = ops::dropout(&x, dropout)?;
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            trace.hidden_state(&x);
            if input.training.is_some_and(|pass| pass.gradient_checkpointing) && ops::tracked(&x) {
                x = checkpointed(block, &x, input, layer, trace)?;
                continue;
            }
            let cache = cached.as_mut().map(|pass| (&mut *pass.cache, pass.segments));
            let next = block.forward(&x, input, layer, cache, trace)?;
            // The first one is the caller's, and hidden states that are asked for are kept.
            match layer == 0 || trace.want_hidden_states {
                true => x = next,
                false => buffers::recycle(std::mem::replace(&mut x, next)),
            }
        }
        let mut x = ops::rms_norm(&x, &self.final_norm, self.eps)?;
        if let Some(dropout) = outside(Site::StackOutput) {
            x = ops::dropout(&x, dropout)?;
        }
        trace.hidden_state(&x);
        buffers::end_pass();
        Ok(x)
    }

    /// Every layer's cross-attention keys and values of the encoder's output `[tokens, d_model]`.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> Result<Vec<CrossKeyValues>> {
        if !ops::tracked(encoder_hidden_states) {
            return self.blocks.iter().map(|block| block.cross_key_values(encoder_hidden_states)).collect();
        }
        // All layers at once, so that the gradient of the encoder's output is one sum.
        let weights: Vec<&Weight> = self.blocks.iter().flat_map(|block| block.key_value_weights()).flatten().collect();
        let all = ops::linears_of(encoder_hidden_states, &weights)?;
        let pairs = all.chunks_exact(2);
        Ok(pairs.map(|pair| CrossKeyValues { keys: pair[0].clone(), values: pair[1].clone() }).collect())
    }
}
