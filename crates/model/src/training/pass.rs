//! What a pass in training does that a pass in use does not: noise, by rate and seed.

use switch_kernels::training::Dropout;

use super::mix::mix;
use crate::config::RouterDtype;

/// Where in the model noise is drawn. Each place and layer has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Of the embeddings, and of the stack's output.
    StackInput,
    StackOutput,
    SelfAttention,
    CrossAttention,
    /// Of attention probabilities.
    SelfProbabilities,
    CrossProbabilities,
    FeedForward,
    /// Inside the feed-forward layer, after the activation.
    Hidden,
    Router,
}

/// One forward pass in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPass {
    pub seed: u64,
    /// Numbers the passes of a training, so that no two draw the same.
    pub step: u64,
    pub dropout_rate: f32,
    /// Of the hidden units of experts, where sparse models fine-tune best with more than elsewhere (paper, section 4.1).
    pub expert_dropout_rate: f32,
    pub router_jitter_noise: f32,
    /// Rounds the router as if it were not kept in float32. `None`: as the config says.
    pub router_dtype: Option<RouterDtype>,
    pub gradient_checkpointing: bool,
}

impl TrainingPass {
    pub fn seed_of(&self, decoder: bool, layer: usize, site: Site) -> u64 {
        let place = (layer as u64) << 8 | u64::from(decoder) << 7 | site as u64;
        mix(mix(self.seed, self.step), place)
    }

    /// The reference's dropout at one place.
    pub fn dropout(&self, decoder: bool, layer: usize, site: Site) -> Dropout {
        Dropout { rate: self.dropout_rate, seed: self.seed_of(decoder, layer, site) }
    }

    pub fn expert_dropout(&self, decoder: bool, layer: usize) -> Dropout {
        Dropout { rate: self.expert_dropout_rate, seed: self.seed_of(decoder, layer, Site::Hidden) }
    }
}

/// A pass, seen from one layer.
#[derive(Debug, Clone, Copy)]
pub struct LayerPass<'a> {
    pub pass: &'a TrainingPass,
    pub decoder: bool,
    pub index: usize,
}

impl LayerPass<'_> {
    pub fn seed(&self, site: Site) -> u64 {
        self.pass.seed_of(self.decoder, self.index, site)
    }

    pub fn dropout(&self, site: Site) -> Dropout {
        self.pass.dropout(self.decoder, self.index, site)
    }
}
