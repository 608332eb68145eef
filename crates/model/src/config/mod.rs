//! `SwitchTransformersConfig` (reference: `configuration_switch_transformers.py`): fields, defaults, aliases, limits.

mod activation;
mod parse;

pub use activation::FeedForwardActivation;
pub use parse::Fault;

use serde_json::{Map, Value};

use crate::error::{code, ModelError, Result};
use crate::quantisation::{Recipe, CONFIG_FIELD};

/// Precision in which the router computes ("selective precision", section 2.4 of the paper).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterDtype {
    Float32,
    Float16,
    Bfloat16,
}

/// A validated configuration. Field names and defaults are the reference's.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchTransformersConfig {
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub expert_capacity: usize,
    pub num_layers: usize,
    pub num_sparse_encoder_layers: usize,
    pub num_decoder_layers: usize,
    pub num_sparse_decoder_layers: usize,
    pub encoder_sparse_step: usize,
    pub decoder_sparse_step: usize,
    pub num_heads: usize,
    pub num_experts: usize,
    pub router_bias: bool,
    pub router_jitter_noise: f64,
    pub router_dtype: RouterDtype,
    pub router_ignore_padding_tokens: bool,
    pub relative_attention_num_buckets: usize,
    pub relative_attention_max_distance: usize,
    pub dropout_rate: f64,
    pub layer_norm_epsilon: f64,
    pub router_z_loss_coef: f64,
    pub router_aux_loss_coef: f64,
    pub initializer_factor: f64,
    pub activation: FeedForwardActivation,
    pub tie_word_embeddings: bool,
    /// Whether the source said so, or the default stands (published checkpoints leave it out and untie).
    pub tie_word_embeddings_given: bool,
    pub pad_token_id: Option<u32>,
    pub decoder_start_token_id: Option<u32>,
    /// Which encoder layers are sparse, by index. Follows the sparse step, unless a checkpoint says otherwise.
    pub sparse_encoder_layers: Vec<bool>,
    /// Likewise for the decoder.
    pub sparse_decoder_layers: Vec<bool>,
    /// Every field as given or defaulted, unknown ones included: what `config.json` is written from.
    pub resolved: Map<String, Value>,
    /// How weights are quantised, if they are.
    pub quantization: Option<Recipe>,
}

impl SwitchTransformersConfig {
    /// Reads a `config.json` object. All faults are reported in one error.
    pub fn from_json(value: &Value) -> Result<Self> {
        parse::parse(value).map_err(|faults| {
            let list: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
            let details: Vec<Value> =
                faults.iter().map(|f| serde_json::json!({ "field": f.field, "message": f.message })).collect();
            ModelError::new(code::INVALID_CONFIG, format!("invalid config: {}", list.join("; ")))
                .with_details(serde_json::json!({ "faults": details }))
        })
    }

    /// Width of queries, keys and values: `num_heads * d_kv`.
    pub fn inner_dim(&self) -> usize {
        self.num_heads * self.d_kv
    }

    /// Every field, with what a checkpoint's tensors corrected.
    pub fn to_json(&self) -> Value {
        let mut fields = self.resolved.clone();
        for (name, value) in [
            ("num_layers", self.num_layers.into()),
            ("num_decoder_layers", self.num_decoder_layers.into()),
            ("encoder_sparse_step", self.encoder_sparse_step.into()),
            ("decoder_sparse_step", self.decoder_sparse_step.into()),
            ("tie_word_embeddings", self.tie_word_embeddings.into()),
        ] {
            fields.insert(name.to_string(), value);
        }
        match &self.quantization {
            Some(recipe) => fields.insert(CONFIG_FIELD.to_string(), recipe.to_json()),
            None => fields.remove(CONFIG_FIELD),
        };
        Value::Object(fields)
    }

    /// Layer `i` is sparse iff `step == 1` or `i % step == 1` (reference: `SwitchTransformersStack`); step 0: none.
    pub fn sparse_layers(layers: usize, step: usize) -> Vec<bool> {
        (0..layers).map(|i| step == 1 || (step > 1 && i % step == 1)).collect()
    }
}
