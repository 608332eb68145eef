//! Every parameter of a model: its name in a checkpoint, its shape and how it starts. The one list that loading,
//! initialising, saving and counting go by.

use std::collections::BTreeMap;

use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::weight::Weight;

/// The classes that the reference documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    ConditionalGeneration,
    Model,
    Encoder,
    Router,
    SparseMlp,
}

impl Architecture {
    pub const ALL: [Self; 5] = [Self::ConditionalGeneration, Self::Model, Self::Encoder, Self::Router, Self::SparseMlp];

    pub fn name(self) -> &'static str {
        match self {
            Self::ConditionalGeneration => "SwitchTransformersForConditionalGeneration",
            Self::Model => "SwitchTransformersModel",
            Self::Encoder => "SwitchTransformersEncoderModel",
            Self::Router => "SwitchTransformersTop1Router",
            Self::SparseMlp => "SwitchTransformersSparseMLP",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    pub fn has_decoder(self) -> bool {
        matches!(self, Self::ConditionalGeneration | Self::Model)
    }

    pub fn has_encoder(self) -> bool {
        self.has_decoder() || self == Self::Encoder
    }
}

/// What a parameter is for, which decides its initial distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Embedding,
    /// A stack's own embedding, which untied models have beside the shared one.
    StackEmbedding,
    Head,
    Norm,
    Query,
    KeyOrValue,
    AttentionOutput,
    RelativeBias,
    DenseIn,
    DenseOut,
    ExpertIn,
    ExpertOut,
    Router,
    RouterBias,
}

impl ParameterSpec {
    /// Elements, or `None` past the address space.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
    /// Whether one token passes through it: false for the experts it was not sent to.
    pub expert: bool,
}

/// All parameters of `architecture`, in the order of the model.
pub fn specs(config: &SwitchTransformersConfig, architecture: Architecture) -> Vec<ParameterSpec> {
    let mut list = Specs { config, list: Vec::new() };
    match architecture {
        Architecture::Router => list.router("classifier"),
        Architecture::SparseMlp => list.sparse_mlp(""),
        _ => {
            list.push("shared.weight".into(), &[config.vocab_size, config.d_model], Role::Embedding);
            list.stack("encoder", &config.sparse_encoder_layers, false);
            if architecture.has_decoder() {
                list.stack("decoder", &config.sparse_decoder_layers, true);
            }
            if architecture == Architecture::ConditionalGeneration && !config.tie_word_embeddings {
                list.push("lm_head.weight".into(), &[config.vocab_size, config.d_model], Role::Head);
            }
        }
    }
    list.list
}

struct Specs<'a> {
    config: &'a SwitchTransformersConfig,
    list: Vec<ParameterSpec>,
}

impl Specs<'_> {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        let expert = matches!(role, Role::ExpertIn | Role::ExpertOut);
        self.list.push(ParameterSpec { name, shape: shape.to_vec(), role, expert });
    }

    fn stack(&mut self, name: &str, sparse: &[bool], decoder: bool) {
        let d = self.config.d_model;
        if !self.config.tie_word_embeddings {
            let shape = [self.config.vocab_size, d];
            self.push(format!("{name}.embed_tokens.weight"), &shape, Role::StackEmbedding);
        }
        for (i, &is_sparse) in sparse.iter().enumerate() {
            let block = format!("{name}.block.{i}.layer");
            self.attention(&format!("{block}.0.SelfAttention"), i == 0);
            self.push(format!("{block}.0.layer_norm.weight"), &[d], Role::Norm);
            if decoder {
                self.attention(&format!("{block}.1.EncDecAttention"), false);
                self.push(format!("{block}.1.layer_norm.weight"), &[d], Role::Norm);
            }
            let ff = format!("{block}.{}", if decoder { 2 } else { 1 });
            if is_sparse {
                self.sparse_mlp(&format!("{ff}.mlp."));
            } else {
                self.feed_forward(&format!("{ff}.mlp"), Role::DenseIn, Role::DenseOut);
            }
            self.push(format!("{ff}.layer_norm.weight"), &[d], Role::Norm);
        }
        self.push(format!("{name}.final_layer_norm.weight"), &[d], Role::Norm);
    }

    fn attention(&mut self, prefix: &str, relative_bias: bool) {
        let (d, inner) = (self.config.d_model, self.config.inner_dim());
        self.push(format!("{prefix}.q.weight"), &[inner, d], Role::Query);
        self.push(format!("{prefix}.k.weight"), &[inner, d], Role::KeyOrValue);
        self.push(format!("{prefix}.v.weight"), &[inner, d], Role::KeyOrValue);
        self.push(format!("{prefix}.o.weight"), &[d, inner], Role::AttentionOutput);
        if relative_bias {
            let shape = [self.config.relative_attention_num_buckets, self.config.num_heads];
            self.push(format!("{prefix}.relative_attention_bias.weight"), &shape, Role::RelativeBias);
        }
    }

    fn feed_forward(&mut self, prefix: &str, input: Role, output: Role) {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        if self.config.activation.gated {
            self.push(format!("{prefix}.wi_0.weight"), &[ff, d], input);
            self.push(format!("{prefix}.wi_1.weight"), &[ff, d], input);
        } else {
            self.push(format!("{prefix}.wi.weight"), &[ff, d], input);
        }
        self.push(format!("{prefix}.wo.weight"), &[d, ff], output);
    }

    fn router(&mut self, prefix: &str) {
        self.push(format!("{prefix}.weight"), &[self.config.num_experts, self.config.d_model], Role::Router);
        if self.config.router_bias {
            self.push(format!("{prefix}.bias"), &[self.config.num_experts], Role::RouterBias);
        }
    }

    fn sparse_mlp(&mut self, prefix: &str) {
        self.router(&format!("{prefix}router.classifier"));
        for e in 0..self.config.num_experts {
            self.feed_forward(&format!("{prefix}experts.expert_{e}"), Role::ExpertIn, Role::ExpertOut);
        }
    }
}

/// Parameter values by name.
#[derive(Clone, Default)]
pub struct Parameters(BTreeMap<String, Weight>);

impl Parameters {
    pub fn insert(&mut self, name: String, weight: Weight) {
        self.0.insert(name, weight);
    }

    pub fn get(&self, name: &str) -> Result<Weight> {
        self.0.get(name).cloned().ok_or_else(|| ModelError::internal(format!("the model has no parameter {name}")))
    }

    /// A vector or a small matrix as float32: norms, router and position bias stay in float32 whatever the storage.
    pub fn f32(&self, name: &str) -> Result<Weight> {
        self.get(name)?.widened()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.0.iter().map(|(name, weight)| (name.as_str(), weight))
    }
}
