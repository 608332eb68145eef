//! From JSON to a config: defaults, aliases, limits, every fault at once.

use serde_json::{json, Map, Value};

use crate::quantisation::{Recipe, CONFIG_FIELD};

use super::{FeedForwardActivation, RouterDtype, SwitchTransformersConfig};

/// One thing wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub message: String,
}

/// Elements in one tensor, at most: what any real model stays far below, and an index can hold.
const MAX_TENSOR_ELEMENTS: u128 = 1 << 40;
/// Of layers, heads and experts: beyond these a config is a mistake or an attack.
const MAX_LAYERS: u64 = 1 << 12;
const MAX_WIDTH: u64 = 1 << 24;
const MAX_EXPERTS: u64 = 1 << 20;
/// Of experts in all layers together: each is a handful of named tensors that have to be listed.
const MAX_TOTAL_EXPERTS: u64 = 1 << 22;

/// Other names of fields (reference: `attribute_map`).
const ALIASES: [(&str, &str); 3] =
    [("hidden_size", "d_model"), ("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers")];

struct Reader<'a> {
    given: &'a Map<String, Value>,
    resolved: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, field: &str, message: String) {
        self.faults.push(Fault { field: field.to_string(), message });
    }

    /// The value under the field's name or alias; `null` counts as absent.
    fn value(&mut self, field: &str) -> Option<Value> {
        let direct = self.given.get(field).filter(|v| !v.is_null()).cloned();
        for (alias, name) in ALIASES {
            if name != field {
                continue;
            }
            if let Some(other) = self.given.get(alias).filter(|v| !v.is_null()).cloned() {
                match &direct {
                    Some(value) if *value != other => {
                        self.fault(field, format!("is {value}, but its alias {alias} is {other}; give one of them"));
                    }
                    Some(_) => {}
                    None => return Some(other),
                }
            }
        }
        direct
    }

    fn integer(&mut self, field: &str, default: u64, min: u64, max: u64) -> u64 {
        let Some(value) = self.value(field) else {
            self.resolved.insert(field.into(), json!(default));
            return default;
        };
        // 12.0 is what some writers make of 12.
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f)).map(|f| f as u64));
        match whole {
            Some(n) if (min..=max).contains(&n) => {
                self.resolved.insert(field.into(), json!(n));
                n
            }
            _ => {
                self.fault(field, format!("found {value}, expected a whole number from {min} to {max}"));
                default
            }
        }
    }

    fn float(&mut self, field: &str, default: f64, min: f64, max: f64) -> f64 {
        let Some(value) = self.value(field) else {
            self.resolved.insert(field.into(), json!(default));
            return default;
        };
        match value.as_f64() {
            Some(x) if x.is_finite() && x >= min && x <= max => {
                self.resolved.insert(field.into(), value);
                x
            }
            _ => {
                self.fault(field, format!("found {value}, expected a number from {min} to {max}"));
                default
            }
        }
    }

    fn boolean(&mut self, field: &str, default: bool) -> bool {
        let Some(value) = self.value(field) else {
            self.resolved.insert(field.into(), json!(default));
            return default;
        };
        match value.as_bool() {
            Some(b) => {
                self.resolved.insert(field.into(), json!(b));
                b
            }
            None => {
                self.fault(field, format!("found {value}, expected true or false"));
                default
            }
        }
    }

    fn string(&mut self, field: &str, default: &str) -> String {
        let Some(value) = self.value(field) else {
            self.resolved.insert(field.into(), json!(default));
            return default.to_string();
        };
        match value.as_str() {
            Some(s) => {
                self.resolved.insert(field.into(), json!(s));
                s.to_string()
            }
            None => {
                self.fault(field, format!("found {value}, expected a string"));
                default.to_string()
            }
        }
    }

    /// A token id; `null` means that the model has no such token.
    fn token(&mut self, field: &str, default: Option<u32>, vocab_size: u64) -> Option<u32> {
        match self.given.get(field) {
            None => {
                self.resolved.insert(field.into(), json!(default));
                default
            }
            Some(Value::Null) => {
                self.resolved.insert(field.into(), Value::Null);
                None
            }
            Some(value) => match value.as_u64().filter(|n| *n < vocab_size).and_then(|n| u32::try_from(n).ok()) {
                Some(id) => {
                    self.resolved.insert(field.into(), json!(id));
                    Some(id)
                }
                // A negative id is how some writers say "none".
                None if value.as_i64() == Some(-1) => {
                    self.resolved.insert(field.into(), value.clone());
                    None
                }
                None => {
                    let message = format!("found {value}, expected a token id below vocab_size ({vocab_size}) or null");
                    self.fault(field, message);
                    default
                }
            },
        }
    }

    fn eos(&mut self, vocab_size: u64) {
        let field = "eos_token_id";
        let value = self.given.get(field).cloned().unwrap_or(json!(1));
        let ok = |v: &Value| v.as_u64().is_some_and(|n| n < vocab_size) || v.as_i64() == Some(-1);
        let fine = match &value {
            Value::Null => true,
            Value::Array(ids) => !ids.is_empty() && ids.iter().all(ok),
            one => ok(one),
        };
        if !fine {
            let message =
                format!("found {value}, expected a token id below vocab_size ({vocab_size}), a list of them or null");
            self.fault(field, message);
        }
        self.resolved.insert(field.into(), value);
    }
}

/// Reads and checks every field.
pub(super) fn parse(value: &Value) -> Result<SwitchTransformersConfig, Vec<Fault>> {
    let Some(given) = value.as_object() else {
        return Err(vec![Fault {
            field: "config".into(),
            message: format!("found {}, expected an object", kind(value)),
        }]);
    };
    // Aliases are read through their fields; everything else unknown is kept for saving.
    let resolved = given
        .iter()
        .filter(|(k, _)| !ALIASES.iter().any(|(alias, _)| alias == k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut r = Reader { given, resolved, faults: Vec::new() };

    if let Some(model_type) =
        given.get("model_type").filter(|v| !v.is_null() && v.as_str() != Some("switch_transformers"))
    {
        r.fault(
            "model_type",
            format!("found {model_type}, expected \"switch_transformers\"; no other model runs here"),
        );
    }
    r.resolved.insert("model_type".into(), json!("switch_transformers"));

    let vocab_size = r.integer("vocab_size", 32128, 1, MAX_WIDTH);
    let d_model = r.integer("d_model", 768, 1, MAX_WIDTH);
    let d_kv = r.integer("d_kv", 64, 1, MAX_WIDTH);
    let d_ff = r.integer("d_ff", 2048, 1, MAX_WIDTH);
    let num_heads = r.integer("num_heads", 12, 1, MAX_WIDTH);
    let num_experts = r.integer("num_experts", 8, 1, MAX_EXPERTS);
    let expert_capacity = r.integer("expert_capacity", 64, 0, u64::from(u32::MAX));
    let num_layers = r.integer("num_layers", 12, 1, MAX_LAYERS);
    // The reference's own default is 12; null means as many as the encoder has.
    let symmetric = given.get("num_decoder_layers").is_some_and(Value::is_null);
    let decoder_default = if symmetric { num_layers } else { 12 };
    let num_decoder_layers = r.integer("num_decoder_layers", decoder_default, 1, MAX_LAYERS);
    let sparse_encoder = r.integer("num_sparse_encoder_layers", 3, 0, MAX_LAYERS);
    let sparse_decoder = r.integer("num_sparse_decoder_layers", 3, 0, MAX_LAYERS);
    // Fewer layers than sparse ones gives step 0, and so no sparse layer, as in the reference.
    let step = |layers: u64, sparse: u64| layers.checked_div(sparse).unwrap_or(layers);
    let encoder_sparse_step = r.integer("encoder_sparse_step", step(num_layers, sparse_encoder), 0, MAX_LAYERS);
    let decoder_sparse_step = r.integer("decoder_sparse_step", step(num_decoder_layers, sparse_decoder), 0, MAX_LAYERS);

    let router_bias = r.boolean("router_bias", false);
    let router_jitter_noise = r.float("router_jitter_noise", 0.01, 0.0, 1.0);
    let router_dtype = match r.string("router_dtype", "float32").as_str() {
        "float32" => RouterDtype::Float32,
        "float16" => RouterDtype::Float16,
        "bfloat16" => RouterDtype::Bfloat16,
        other => {
            r.fault("router_dtype", format!("found {other:?}, expected \"float32\", \"float16\" or \"bfloat16\""));
            RouterDtype::Float32
        }
    };
    let router_ignore_padding_tokens = r.boolean("router_ignore_padding_tokens", false);
    let buckets = r.integer("relative_attention_num_buckets", 32, 4, 1 << 20);
    let max_distance = r.integer("relative_attention_max_distance", 128, 1, 1 << 40);
    if max_distance <= buckets / 2 {
        let message =
            format!("found {max_distance}, expected more than half of relative_attention_num_buckets ({buckets})");
        r.fault("relative_attention_max_distance", message);
    }
    let dropout_rate = r.float("dropout_rate", 0.1, 0.0, 1.0);
    let layer_norm_epsilon = r.float("layer_norm_epsilon", 1e-6, 0.0, 1.0);
    let router_z_loss_coef = r.float("router_z_loss_coef", 0.001, 0.0, 1e9);
    let router_aux_loss_coef = r.float("router_aux_loss_coef", 0.001, 0.0, 1e9);
    let initializer_factor = r.float("initializer_factor", 1.0, 0.0, 1e9);
    let act_fn = r.string("dense_act_fn", "relu");
    let activation = FeedForwardActivation::parse(&act_fn);
    if activation.is_none() {
        let message =
            format!("found {act_fn:?}, expected an activation such as relu, gelu, gelu_new, silu or gated-gelu");
        r.fault("dense_act_fn", message);
    }
    for (field, default) in [("is_encoder_decoder", true), ("add_router_probs", false), ("use_cache", true)] {
        r.boolean(field, default);
    }
    let tie_word_embeddings_given = given.get("tie_word_embeddings").is_some_and(|v| !v.is_null());
    let tie_word_embeddings = r.boolean("tie_word_embeddings", true);
    let pad_token_id = r.token("pad_token_id", Some(0), vocab_size);
    // The reference leaves it unset by default; published checkpoints set it to the padding token.
    let decoder_start_token_id = r.token("decoder_start_token_id", pad_token_id, vocab_size);
    r.token("bos_token_id", None, vocab_size);
    r.eos(vocab_size);

    let quantization = given
        .get(CONFIG_FIELD)
        .filter(|v| !v.is_null())
        .and_then(|value| Recipe::from_json(value).map_err(|message| r.fault(CONFIG_FIELD, message)).ok());

    let experts = (num_layers + num_decoder_layers).saturating_mul(num_experts);
    if experts > MAX_TOTAL_EXPERTS {
        r.fault(
            "num_experts",
            format!("{experts} experts in all layers together, expected at most {MAX_TOTAL_EXPERTS}"),
        );
    }
    for (what, a, b) in [
        ("vocab_size × d_model", vocab_size, d_model),
        ("d_ff × d_model", d_ff, d_model),
        ("num_heads × d_kv × d_model", num_heads.saturating_mul(d_kv), d_model),
    ] {
        if u128::from(a) * u128::from(b) > MAX_TENSOR_ELEMENTS {
            let message = format!("{what} = {a} × {b} elements in one tensor, expected at most {MAX_TENSOR_ELEMENTS}");
            r.fault("d_model", message);
        }
    }
    let (Some(activation), true) = (activation, r.faults.is_empty()) else {
        return Err(r.faults);
    };
    let size = |n: u64| n as usize;
    Ok(SwitchTransformersConfig {
        vocab_size: size(vocab_size),
        d_model: size(d_model),
        d_kv: size(d_kv),
        d_ff: size(d_ff),
        expert_capacity: size(expert_capacity),
        num_layers: size(num_layers),
        num_sparse_encoder_layers: size(sparse_encoder),
        num_decoder_layers: size(num_decoder_layers),
        num_sparse_decoder_layers: size(sparse_decoder),
        encoder_sparse_step: size(encoder_sparse_step),
        decoder_sparse_step: size(decoder_sparse_step),
        num_heads: size(num_heads),
        num_experts: size(num_experts),
        router_bias,
        router_jitter_noise,
        router_dtype,
        router_ignore_padding_tokens,
        relative_attention_num_buckets: size(buckets),
        relative_attention_max_distance: usize::try_from(max_distance).unwrap_or(usize::MAX),
        dropout_rate,
        layer_norm_epsilon,
        router_z_loss_coef,
        router_aux_loss_coef,
        initializer_factor,
        activation,
        tie_word_embeddings,
        tie_word_embeddings_given,
        pad_token_id,
        decoder_start_token_id,
        sparse_encoder_layers: SwitchTransformersConfig::sparse_layers(size(num_layers), size(encoder_sparse_step)),
        sparse_decoder_layers: SwitchTransformersConfig::sparse_layers(
            size(num_decoder_layers),
            size(decoder_sparse_step),
        ),
        resolved: r.resolved,
        quantization,
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
