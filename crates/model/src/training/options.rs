//! Options of a training, as `TrainingOptions` of the contract gives them.

use serde::Deserialize;

use crate::config::{RouterDtype, SwitchTransformersConfig};
use crate::error::{code, ModelError, Result};

/// `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWOptions {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// `transformers.optimization.Adafactor`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdafactorOptions {
    pub eps: [f64; 2],
    pub clip_threshold: f64,
    pub decay_rate: f64,
    pub beta1: Option<f64>,
    pub weight_decay: f64,
    pub scale_parameter: bool,
    pub relative_step: bool,
    pub warmup_init: bool,
}

impl Default for AdafactorOptions {
    fn default() -> Self {
        Self {
            eps: [1e-30, 1e-3],
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta1: None,
            weight_decay: 0.0,
            scale_parameter: true,
            relative_step: true,
            warmup_init: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum OptimizerOptions {
    AdamW(AdamWOptions),
    Adafactor(AdafactorOptions),
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self::AdamW(AdamWOptions::default())
    }
}

/// Low-rank adapters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraOptions {
    pub rank: usize,
    #[serde(default)]
    pub alpha: Option<f64>,
    #[serde(default = "LoraOptions::default_targets")]
    pub targets: Vec<String>,
}

impl LoraOptions {
    const TARGETS: [&str; 8] = ["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"];

    fn default_targets() -> Vec<String> {
        vec!["q".into(), "v".into()]
    }

    /// `alpha / rank`.
    pub fn scale(&self) -> f32 {
        (self.alpha.unwrap_or(2.0 * self.rank as f64) / self.rank.max(1) as f64) as f32
    }
}

/// Options of the parameters whose names match.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    pub patterns: Vec<String>,
    #[serde(default = "one")]
    pub learning_rate_scale: f64,
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// Which parameters are trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainablePart {
    #[default]
    All,
    NonExpert,
    Expert,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    #[default]
    Float32,
    Bfloat16,
}

/// See `TrainingOptions` of the contract, whose defaults these are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingOptions {
    pub precision: TrainingPrecision,
    pub selective_precision: bool,
    pub trainable: TrainablePart,
    pub frozen: Vec<String>,
    pub lora: Option<LoraOptions>,
    pub dropout_rate: Option<f64>,
    pub expert_dropout_rate: Option<f64>,
    pub router_jitter_noise: Option<f64>,
    pub label_smoothing: f64,
    pub logits_z_loss_coef: f64,
    pub router_z_loss_coef: Option<f64>,
    pub router_aux_loss_coef: Option<f64>,
    pub gradient_checkpointing: bool,
    pub seed: u64,
    pub optimizer: OptimizerOptions,
    pub parameter_groups: Vec<ParameterGroup>,
    /// A handle, which the engine resolves.
    pub teacher: Option<u32>,
    pub soft_label_weight: f64,
    pub temperature: f64,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            precision: TrainingPrecision::Float32,
            selective_precision: true,
            trainable: TrainablePart::All,
            frozen: Vec::new(),
            lora: None,
            dropout_rate: None,
            expert_dropout_rate: None,
            router_jitter_noise: None,
            label_smoothing: 0.0,
            logits_z_loss_coef: 0.0,
            router_z_loss_coef: None,
            router_aux_loss_coef: None,
            gradient_checkpointing: false,
            seed: 0,
            optimizer: OptimizerOptions::default(),
            parameter_groups: Vec::new(),
            teacher: None,
            soft_label_weight: 0.25,
            temperature: 1.0,
        }
    }
}

impl TrainingOptions {
    /// Fails with `INVALID_OPTION` for the first value out of range.
    pub fn check(&self) -> Result<()> {
        below_one("dropout_rate", self.dropout_rate.unwrap_or(0.0))?;
        below_one("expert_dropout_rate", self.expert_dropout_rate.unwrap_or(0.0))?;
        below_one("router_jitter_noise", self.router_jitter_noise.unwrap_or(0.0))?;
        below_one("label_smoothing", self.label_smoothing)?;
        not_negative("logits_z_loss_coef", self.logits_z_loss_coef)?;
        not_negative("router_z_loss_coef", self.router_z_loss_coef.unwrap_or(0.0))?;
        not_negative("router_aux_loss_coef", self.router_aux_loss_coef.unwrap_or(0.0))?;
        within("soft_label_weight", self.soft_label_weight, self.soft_label_weight <= 1.0, "from 0 to 1")?;
        above_zero("temperature", self.temperature)?;
        match &self.optimizer {
            OptimizerOptions::AdamW(o) => {
                below_one("optimizer.beta1", o.beta1)?;
                below_one("optimizer.beta2", o.beta2)?;
                above_zero("optimizer.eps", o.eps)?;
                not_negative("optimizer.weight_decay", o.weight_decay)?;
            }
            OptimizerOptions::Adafactor(o) => {
                not_negative("optimizer.eps[0]", o.eps[0])?;
                not_negative("optimizer.eps[1]", o.eps[1])?;
                above_zero("optimizer.clip_threshold", o.clip_threshold)?;
                if !(o.decay_rate < 0.0 && o.decay_rate.is_finite()) {
                    return Err(fault("optimizer.decay_rate", o.decay_rate, "a number below 0"));
                }
                below_one("optimizer.beta1", o.beta1.unwrap_or(0.0))?;
                not_negative("optimizer.weight_decay", o.weight_decay)?;
                if o.warmup_init && !o.relative_step {
                    let message = "optimizer.warmup_init: found true, expected false: it needs relative_step";
                    return Err(ModelError::new(code::INVALID_OPTION, message));
                }
            }
        }
        for group in &self.parameter_groups {
            not_negative("parameter_groups.learning_rate_scale", group.learning_rate_scale)?;
            not_negative("parameter_groups.weight_decay", group.weight_decay.unwrap_or(0.0))?;
        }
        let Some(lora) = &self.lora else { return Ok(()) };
        if !(1..=4096).contains(&lora.rank) {
            return Err(fault("lora.rank", lora.rank as f64, "from 1 to 4096"));
        }
        above_zero("lora.alpha", lora.alpha.unwrap_or(1.0))?;
        match lora.targets.iter().find(|t| !LoraOptions::TARGETS.contains(&t.as_str())) {
            Some(target) => {
                let message = format!("lora.targets: found {target:?}, expected some of {:?}", LoraOptions::TARGETS);
                Err(ModelError::new(code::INVALID_OPTION, message))
            }
            None if lora.targets.is_empty() => {
                Err(ModelError::new(code::INVALID_OPTION, "lora.targets: found none, expected at least one"))
            }
            None => Ok(()),
        }
    }

    /// The pass numbered `step`.
    pub fn pass(&self, config: &SwitchTransformersConfig, step: u64) -> super::TrainingPass {
        let dropout = self.dropout_rate.unwrap_or(config.dropout_rate);
        super::TrainingPass {
            seed: self.seed,
            step,
            dropout_rate: dropout as f32,
            expert_dropout_rate: self.expert_dropout_rate.unwrap_or(dropout) as f32,
            router_jitter_noise: self.router_jitter_noise.unwrap_or(config.router_jitter_noise) as f32,
            router_dtype: self.router_dtype(),
            gradient_checkpointing: self.gradient_checkpointing,
        }
    }

    /// A pass without noise, as evaluation makes it.
    pub fn quiet_pass(&self) -> super::TrainingPass {
        super::TrainingPass {
            seed: 0,
            step: 0,
            dropout_rate: 0.0,
            expert_dropout_rate: 0.0,
            router_jitter_noise: 0.0,
            router_dtype: self.router_dtype(),
            gradient_checkpointing: false,
        }
    }

    /// What routers are computed in, where it is not what the config says.
    fn router_dtype(&self) -> Option<RouterDtype> {
        let narrow = self.precision == TrainingPrecision::Bfloat16 && !self.selective_precision;
        narrow.then_some(RouterDtype::Bfloat16)
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn fault(name: &str, found: f64, expected: &str) -> ModelError {
    ModelError::new(code::INVALID_OPTION, format!("{name}: found {found}, expected {expected}"))
}

fn within(name: &str, value: f64, fits: bool, expected: &str) -> Result<()> {
    match value.is_finite() && value >= 0.0 && fits {
        true => Ok(()),
        false => Err(fault(name, value, expected)),
    }
}

fn below_one(name: &str, value: f64) -> Result<()> {
    within(name, value, value < 1.0, "from 0 to below 1")
}

fn not_negative(name: &str, value: f64) -> Result<()> {
    within(name, value, true, "0 or more")
}

fn above_zero(name: &str, value: f64) -> Result<()> {
    within(name, value, value > 0.0, "a number above 0")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*.router.*", "encoder.block.1.layer.1.mlp.router.classifier.weight", true),
            ("*.router.*", "encoder.block.1.layer.0.layer_norm.weight", false),
            ("encoder.*.weight", "encoder.final_layer_norm.weight", true),
            ("encoder.*.weight", "decoder.final_layer_norm.weight", false),
            ("*a*ab", "aab", true),
            ("ab*ba", "aba", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
