//! Which stored tensor each parameter is, and everything that does not fit, in one error.

use std::collections::BTreeSet;

use serde_json::json;
use switch_checkpoint::{Checkpoint, Dtype, TensorInfo};

use super::reconcile::{DECODER_HEAD, HEAD, SHARED};
use crate::config::SwitchTransformersConfig;
use crate::error::{code, ModelError, Result};
use crate::parameters::{Architecture, ParameterSpec};
use crate::quantisation::Kind;

/// Names listed in an error's message; all are in its details.
const LISTED: usize = 8;

/// Ends the name of a quantised tensor's scales.
pub(super) const SCALES: &str = ".scales";

/// How a parameter is stored.
pub(super) enum Stored {
    Float(TensorInfo),
    Quantised { kind: Kind, values: TensorInfo, scales: TensorInfo },
}

impl Stored {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Float(info) => info.bytes(),
            Self::Quantised { values, scales, .. } => values.bytes().saturating_add(scales.bytes()),
        }
    }
}

#[derive(Default)]
struct Faults {
    missing: Vec<String>,
    /// Name, found, expected.
    misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    mistyped: Vec<(String, &'static str, &'static str)>,
}

/// The stored tensor of each parameter.
pub(super) fn match_tensors(
    checkpoint: &Checkpoint,
    config: &SwitchTransformersConfig,
    architecture: Architecture,
    specs: Vec<ParameterSpec>,
) -> Result<Vec<(ParameterSpec, Stored)>> {
    let mut found = Vec::with_capacity(specs.len());
    let mut faults = Faults::default();
    let mut used = BTreeSet::new();
    for spec in specs {
        match stored(checkpoint, &spec.name) {
            None => faults.missing.push(spec.name),
            Some(info) => {
                used.insert(info.name.clone());
                match config.quantization.as_ref().and_then(|recipe| recipe.kind(&spec)) {
                    Some(kind) => {
                        used.insert(format!("{}{SCALES}", info.name));
                        if let Some(stored) = quantised(checkpoint, &spec, info, kind, &mut faults) {
                            found.push((spec, stored));
                        }
                    }
                    None if info.shape == spec.shape => found.push((spec, Stored::Float(info.clone()))),
                    None => faults.misshaped.push((spec.name, info.shape.clone(), spec.shape)),
                }
            }
        }
    }
    let Faults { missing, misshaped, mistyped } = faults;
    let left = |name: &str| {
        let of = name.strip_suffix(SCALES).filter(|_| config.quantization.is_some());
        may_be_left(of.unwrap_or(name), config, architecture)
    };
    let unexpected: Vec<String> =
        checkpoint.tensors().filter(|t| !used.contains(&t.name) && !left(&t.name)).map(|t| t.name.clone()).collect();
    if missing.is_empty() && unexpected.is_empty() && misshaped.is_empty() && mistyped.is_empty() {
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
    if !mistyped.is_empty() {
        let lines: Vec<String> = mistyped
            .iter()
            .map(|(name, found, expected)| format!("{name}: found {found}, expected {expected}"))
            .collect();
        parts.push(format!("{} of another type ({})", mistyped.len(), listed(&lines)));
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

/// A quantised parameter's values and scales, if both are what the config says.
fn quantised(
    checkpoint: &Checkpoint,
    spec: &ParameterSpec,
    values: &TensorInfo,
    kind: Kind,
    faults: &mut Faults,
) -> Option<Stored> {
    let &[rows, cols] = spec.shape.as_slice() else { return None };
    let name = format!("{}{SCALES}", values.name);
    let dtype = match kind {
        Kind::Int8 => Dtype::I8,
        Kind::Int4 { .. } => Dtype::U8,
    };
    let mut fits = true;
    let mut check = |info: &TensorInfo, name: &str, dtype: Dtype, shape: Vec<usize>| {
        if info.dtype != dtype {
            faults.mistyped.push((name.to_string(), info.dtype.name(), dtype.name()));
            fits = false;
        } else if info.shape != shape {
            faults.misshaped.push((name.to_string(), info.shape.clone(), shape));
            fits = false;
        }
    };
    check(values, &spec.name, dtype, kind.stored_shape(rows, cols));
    let scales = checkpoint.get(&name);
    match scales {
        Some(scales) => check(scales, &name, Dtype::F32, kind.scales_shape(rows, cols)),
        None => faults.missing.push(name),
    }
    match (fits, scales) {
        (true, Some(scales)) => Some(Stored::Quantised { kind, values: values.clone(), scales: scales.clone() }),
        _ => None,
    }
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
