//! Loading: first every name and shape is checked, then weights are taken in place or read, in steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::vec::HalfFloatVecExt;
use serde_json::json;
use switch_checkpoint::{Checkpoint, Dtype, TensorInfo};

use super::reconcile::{DECODER_HEAD, HEAD, SHARED};
use crate::config::SwitchTransformersConfig;
use crate::error::{code, ModelError, Result};
use crate::model::SwitchTransformers;
use crate::parameters::{specs, Architecture, ParameterSpec, Parameters};
use crate::routing::RoutingPolicy;
use crate::weight::{out_of_memory, try_filled, try_zeros, StorageDtype, Weight};

/// Names listed in an error's message; all are in its details.
const LISTED: usize = 8;

/// How far a load has come, in bytes of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub loaded_bytes: u64,
    pub total_bytes: u64,
}

/// A load under way. Dropping it gives it up.
pub struct Loader {
    checkpoint: Arc<Checkpoint>,
    config: SwitchTransformersConfig,
    architecture: Architecture,
    policy: RoutingPolicy,
    /// `None`: as stored.
    dtype: Option<StorageDtype>,
    pending: std::vec::IntoIter<(ParameterSpec, TensorInfo)>,
    parameters: Parameters,
    progress: Progress,
}

impl Loader {
    /// Checks every tensor against `config`; missing, unexpected and mis-shaped ones are named in one error.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        config: SwitchTransformersConfig,
        architecture: Architecture,
        policy: RoutingPolicy,
        dtype: Option<StorageDtype>,
    ) -> Result<Self> {
        let specs = specs(&config, architecture);
        let found = match_tensors(&checkpoint, &config, architecture, specs)?;
        let total_bytes = found.iter().map(|(_, info)| info.bytes()).sum();
        Ok(Self {
            checkpoint,
            config,
            architecture,
            policy,
            dtype,
            pending: found.into_iter(),
            parameters: Parameters::default(),
            progress: Progress { loaded_bytes: 0, total_bytes },
        })
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Loads about `max_bytes` more; true when nothing is left.
    pub fn step(&mut self, max_bytes: u64) -> Result<bool> {
        let until = self.progress.loaded_bytes.saturating_add(max_bytes.max(1));
        while self.progress.loaded_bytes < until {
            let Some((spec, info)) = self.pending.next() else { return Ok(true) };
            let weight = self.weight(&spec, &info)?;
            self.parameters.insert(spec.name, weight);
            self.progress.loaded_bytes += info.bytes();
        }
        Ok(self.pending.len() == 0)
    }

    /// The model, once every step is done.
    pub fn finish(self) -> Result<SwitchTransformers> {
        SwitchTransformers::build(self.config, self.architecture, self.policy, self.parameters)
    }

    fn weight(&self, spec: &ParameterSpec, info: &TensorInfo) -> Result<Weight> {
        let stored = match info.dtype {
            Dtype::F16 => Some(StorageDtype::F16),
            Dtype::Bf16 => Some(StorageDtype::Bf16),
            Dtype::F32 => Some(StorageDtype::F32),
            Dtype::F64 => None,
            other => {
                let message = format!("tensor {} is {}, expected a float type", info.name, other.name());
                return Err(ModelError::new(code::CHECKPOINT_UNSUPPORTED, message));
            }
        };
        // float32 is what half precision is computed in anyway: widening it beforehand would double the memory for the
        // same numbers.
        let target = match (self.dtype, stored) {
            (None | Some(StorageDtype::F32), Some(stored)) => stored,
            (Some(dtype), _) => dtype,
            (None, None) => StorageDtype::F32,
        };
        if stored == Some(target) {
            if let Some(bytes) = self.checkpoint.mapped(info) {
                return Weight::from_mapped(bytes, target, &spec.shape);
            }
        }
        let elements = spec.elements().ok_or_else(|| out_of_memory(u128::from(info.elements()) * 4))?;
        match target {
            StorageDtype::F32 => {
                let mut values = try_zeros(elements)?;
                self.checkpoint.read_f32(info, &mut values)?;
                Weight::from_f32(values, &spec.shape)
            }
            StorageDtype::F16 => {
                let mut values = try_filled(elements, half::f16::ZERO)?;
                self.checkpoint.read_f16(info, &mut values)?;
                Weight::from_half_bits(values.reinterpret_into(), target, &spec.shape)
            }
            StorageDtype::Bf16 => {
                let mut values = try_filled(elements, half::bf16::ZERO)?;
                self.checkpoint.read_bf16(info, &mut values)?;
                Weight::from_half_bits(values.reinterpret_into(), target, &spec.shape)
            }
        }
    }
}

/// The stored tensor of each parameter.
fn match_tensors(
    checkpoint: &Checkpoint,
    config: &SwitchTransformersConfig,
    architecture: Architecture,
    specs: Vec<ParameterSpec>,
) -> Result<Vec<(ParameterSpec, TensorInfo)>> {
    let mut found = Vec::with_capacity(specs.len());
    let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
    let mut used = BTreeSet::new();
    for spec in specs {
        match stored(checkpoint, &spec.name) {
            None => missing.push(spec.name),
            Some(info) => {
                used.insert(info.name.clone());
                if info.shape == spec.shape {
                    found.push((spec, info.clone()));
                } else {
                    misshaped.push((spec.name, info.shape.clone(), spec.shape));
                }
            }
        }
    }
    let unexpected: Vec<String> = checkpoint
        .tensors()
        .filter(|t| !used.contains(&t.name) && !may_be_left(&t.name, config, architecture))
        .map(|t| t.name.clone())
        .collect();
    if missing.is_empty() && unexpected.is_empty() && misshaped.is_empty() {
        return Ok(found);
    }
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("{} missing ({})", missing.len(), listed(&missing)));
    }
    if !unexpected.is_empty() {
        parts.push(format!("{} unexpected ({})", unexpected.len(), listed(&unexpected)));
    }
    if !misshaped.is_empty() {
        let lines: Vec<String> = misshaped
            .iter()
            .map(|(name, found, expected)| format!("{name}: found {found:?}, expected {expected:?}"))
            .collect();
        parts.push(format!("{} mis-shaped ({})", misshaped.len(), listed(&lines)));
    }
    let shapes: Vec<_> = misshaped
        .iter()
        .map(|(name, found, expected)| json!({ "name": name, "found": found, "expected": expected }))
        .collect();
    let message = format!(
        "the checkpoint's tensors do not fit its config: {}; check that config.json and the weights belong together",
        parts.join("; ")
    );
    Err(ModelError::new(code::CHECKPOINT_MISMATCH, message)
        .with_details(json!({ "missing": missing, "unexpected": unexpected, "misshaped": shapes })))
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(", …");
    }
    text
}

/// Where a parameter is stored: under its own name, or one that published checkpoints use.
fn stored<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a TensorInfo> {
    let others: &[&str] = match name {
        SHARED => &["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
        HEAD => &[DECODER_HEAD],
        // switch-c-2048 unties the head and yet stores one embedding for all.
        "encoder.embed_tokens.weight" | "decoder.embed_tokens.weight" => &[SHARED],
        _ => &[],
    };
    checkpoint.get(name).or_else(|| others.iter().find_map(|other| checkpoint.get(other)))
}

/// Tensors that say nothing new, or belong to a part that the class does not have.
fn may_be_left(name: &str, config: &SwitchTransformersConfig, architecture: Architecture) -> bool {
    let head = name == HEAD || name == DECODER_HEAD;
    let unused_head = head && (config.tie_word_embeddings || architecture != Architecture::ConditionalGeneration);
    unused_head
        || matches!(name, "encoder.embed_tokens.weight" | "decoder.embed_tokens.weight")
        // Older T5 checkpoints hold a bias that cross-attention never used.
        || name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        || (architecture == Architecture::Encoder && name.starts_with("decoder."))
}
