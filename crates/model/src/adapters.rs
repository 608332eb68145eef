//! Low-rank adapters from a file, added to a model that is there (Hu et al., arXiv 2106.09685; names and shapes as PEFT
//! 0.18.1 writes them: `base_model.model.MODULE.lora_A.weight` `[rank, in_features]` and `…lora_B.weight`
//! `[out_features, rank]`). The weight becomes `W + scale · B · A` in float32, the sum that training keeps too.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use switch_checkpoint::{Checkpoint, TensorInfo};

use crate::error::{code, ModelError, Result};
use crate::model::SwitchTransformers;
use crate::parameters::{specs, Architecture, ParameterSpec, Role};
use crate::weight::{out_of_memory, try_zeros, Weight};

/// Names listed in an error's message; all are in its details.
const LISTED: usize = 8;

/// What `adapter_config.json` says about the strength of adapters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterOptions {
    /// Of every adapter; `None`: whatever each one's shape says.
    pub rank: Option<usize>,
    pub alpha: f64,
    /// Of modules by name, or by the end of their name.
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Divides alpha by the rank's square root (Kalajdzievski, arXiv 2312.03732).
    #[serde(default)]
    pub rank_stabilised: bool,
}

impl AdapterOptions {
    fn check(&self) -> Result<()> {
        match std::iter::once(&self.alpha).chain(self.alpha_pattern.values()).find(|alpha| !alpha.is_finite()) {
            Some(alpha) => {
                let message = format!("alpha: found {alpha}, expected a finite number");
                Err(ModelError::new(code::INVALID_OPTION, message))
            }
            None => Ok(()),
        }
    }

    fn scale(&self, module: &str, rank: usize) -> f32 {
        let own =
            |pattern: &str| module.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let alpha = self.alpha_pattern.iter().find(|(pattern, _)| own(pattern)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank.max(1) as f64;
        (alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32
    }
}

/// Adds `scale · B · A` to `values` `[rows, cols]`: `a` `[rank, cols]`, `b` `[rows, rank]`.
pub fn add_low_rank(values: &mut [f32], a: &[f32], b: &[f32], rank: usize, scale: f32) {
    let cols = a.len() / rank.max(1);
    for (row, b) in values.chunks_exact_mut(cols.max(1)).zip(b.chunks_exact(rank.max(1))) {
        for (a, b) in a.chunks_exact(cols.max(1)).zip(b) {
            let factor = b * scale;
            row.iter_mut().zip(a).for_each(|(v, a)| *v += factor * a);
        }
    }
}

/// One adapter: its parameter and its two matrices.
struct Pair<'a> {
    spec: &'a ParameterSpec,
    rank: usize,
    a: &'a TensorInfo,
    b: &'a TensorInfo,
}

/// A model with the adapters of a checkpoint on its weights, and how many there are. The model that it was is kept behind
/// it ([`SwitchTransformers::unadapted`]), and what is not adapted is shared with it. Adapters that a model has already
/// are left out.
///
/// Fails with `CHECKPOINT_MISMATCH`, naming everything that does not fit, `CHECKPOINT_UNSUPPORTED` where a weight is
/// quantised, `CHECKPOINT_CORRUPT` for values that are not finite, and `OUT_OF_MEMORY`.
pub fn with_adapters(
    model: &Arc<SwitchTransformers>,
    checkpoint: &Checkpoint,
    options: &AdapterOptions,
    available: Option<u64>,
) -> Result<(SwitchTransformers, usize)> {
    options.check()?;
    let base = model.unadapted().unwrap_or(model);
    let specs = specs(base.config(), base.architecture());
    let pairs = pairs(base.architecture(), checkpoint, &specs, options)?;
    let elements: u128 = pairs.iter().map(|pair| pair.spec.elements().unwrap_or(usize::MAX) as u128).sum();
    if available.is_some_and(|available| elements * 4 > u128::from(available)) {
        return Err(out_of_memory(elements * 4));
    }
    let mut parameters = base.parameters().clone();
    for pair in &pairs {
        let name = &pair.spec.name;
        let weight = base.parameters().get(name)?;
        if weight.quantised().is_some() {
            let message = format!(
                "found {name} in {}, expected floating point: adapters are added to the weights; load the base in floating \
                 point, merge the adapters, and quantise what comes of it",
                weight.dtype().name()
            );
            return Err(ModelError::new(code::CHECKPOINT_UNSUPPORTED, message));
        }
        let (a, b) = (read(checkpoint, pair.a)?, read(checkpoint, pair.b)?);
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let mut values = weight.to_f32()?;
        add_low_rank(&mut values, &a, &b, pair.rank, options.scale(module, pair.rank));
        let sum = Weight::from_f32(values, weight.shape())?.with_precision(weight.precision());
        parameters.insert(name.clone(), sum);
    }
    let config = base.config().as_ref().clone();
    let adapted = SwitchTransformers::build(config, base.architecture(), *base.policy(), parameters)?;
    Ok((adapted.on(base.device().clone(), base.expert_device())?.in_place_of(Arc::clone(base)), pairs.len()))
}

fn read(checkpoint: &Checkpoint, info: &TensorInfo) -> Result<Vec<f32>> {
    // As many as the file has, by the checkpoint's own checks.
    let mut values = try_zeros(info.shape.iter().product())?;
    checkpoint.read_f32(info, &mut values)?;
    match switch_kernels::training::all_finite(&values) {
        true => Ok(values),
        false => {
            let message =
                format!("found values in {} that are not finite, expected numbers; save the adapter again", info.name);
            Err(ModelError::new(code::CHECKPOINT_CORRUPT, message))
        }
    }
}

/// Which module a tensor belongs to, and whether it is A.
fn module_of(name: &str) -> Option<(&str, bool)> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let name = name.strip_suffix(".weight")?;
    // PEFT leaves the adapter's name out of its files; state dicts have it.
    let name = name.strip_suffix(".default").unwrap_or(name);
    match (name.strip_suffix(".lora_A"), name.strip_suffix(".lora_B")) {
        (Some(module), _) => Some((module, true)),
        (_, Some(module)) => Some((module, false)),
        _ => None,
    }
}

/// Whether a class without them may leave adapters of another class's parts.
fn may_be_left(module: &str, architecture: Architecture) -> bool {
    (architecture == Architecture::Encoder && module.starts_with("decoder."))
        || (architecture != Architecture::ConditionalGeneration && module == "lm_head")
}

fn adaptable(role: Role) -> bool {
    !matches!(role, Role::Embedding | Role::StackEmbedding | Role::Norm | Role::RelativeBias | Role::RouterBias)
}

/// Both matrices of every adapter, if all of them fit.
fn pairs<'a>(
    architecture: Architecture,
    checkpoint: &'a Checkpoint,
    specs: &'a [ParameterSpec],
    options: &AdapterOptions,
) -> Result<Vec<Pair<'a>>> {
    let by_module: BTreeMap<&str, &ParameterSpec> = specs
        .iter()
        .filter(|spec| adaptable(spec.role))
        .filter_map(|spec| Some((spec.name.strip_suffix(".weight")?, spec)))
        .collect();
    let mut halves: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    let (mut unexpected, mut missing, mut misshaped) = (Vec::new(), Vec::new(), Vec::new());
    for info in checkpoint.tensors() {
        match module_of(&info.name) {
            Some((module, _)) if may_be_left(module, architecture) => {}
            Some((module, is_a)) if by_module.contains_key(module) => {
                let slots = halves.entry(module).or_default();
                let slot = if is_a { &mut slots[0] } else { &mut slots[1] };
                *slot = Some(info);
            }
            _ => unexpected.push(info.name.clone()),
        }
    }
    let mut pairs = Vec::with_capacity(halves.len());
    for (module, slots) in halves {
        let Some(spec) = by_module.get(module) else { continue };
        let &[rows, cols] = spec.shape.as_slice() else { continue };
        match slots {
            [Some(a), Some(b)] => {
                let rank = options.rank.or(a.shape.first().copied()).unwrap_or(0);
                let wrong = [(a, vec![rank, cols]), (b, vec![rows, rank])].into_iter().filter(|(i, s)| i.shape != *s);
                let before = misshaped.len();
                misshaped.extend(wrong.map(|(info, expected)| (info.name.clone(), info.shape.clone(), expected)));
                if rank == 0 {
                    misshaped.push((a.name.clone(), a.shape.clone(), vec![1, cols]));
                }
                if misshaped.len() == before {
                    pairs.push(Pair { spec, rank, a, b });
                }
            }
            [None, _] => missing.push(format!("{module}.lora_A.weight")),
            [_, None] => missing.push(format!("{module}.lora_B.weight")),
        }
    }
    if unexpected.is_empty() && missing.is_empty() && misshaped.is_empty() && !pairs.is_empty() {
        return Ok(pairs);
    }
    let shapes: Vec<String> = misshaped
        .iter()
        .map(|(name, found, expected)| format!("{name}: found {found:?}, expected {expected:?}"))
        .collect();
    let mut parts = Vec::new();
    for (what, names) in
        [("missing", &missing), ("that no module of the base has", &unexpected), ("mis-shaped", &shapes)]
    {
        if !names.is_empty() {
            let dots = if names.len() > LISTED { ", …" } else { "" };
            parts.push(format!("{} {what} ({}{dots})", names.len(), names[..names.len().min(LISTED)].join(", ")));
        }
    }
    if parts.is_empty() {
        parts.push("no low-rank matrices".into());
    }
    let message = format!(
        "the adapter does not fit this model: found {}; load the base that it was trained on, which its \
         adapter_config.json names",
        parts.join("; ")
    );
    let shapes: Vec<_> = misshaped
        .iter()
        .map(|(name, found, expected)| json!({ "name": name, "found": found, "expected": expected }))
        .collect();
    Err(ModelError::new(code::CHECKPOINT_MISMATCH, message)
        .with_details(json!({ "missing": missing, "unexpected": unexpected, "misshaped": shapes })))
}

#[cfg(test)]
mod tests {
    use super::{module_of, AdapterOptions};

    #[test]
    fn names_are_those_of_peft() {
        assert_eq!(module_of("base_model.model.a.b.lora_A.weight"), Some(("a.b", true)));
        assert_eq!(module_of("a.lora_B.default.weight"), Some(("a", false)));
        assert_eq!(module_of("a.lora_embedding_A"), None);
        assert_eq!(module_of("a.lora_magnitude_vector.weight"), None);
    }

    #[test]
    fn scales_by_module_and_rank() {
        let alpha_pattern = [("b.q".to_string(), 32.0)].into();
        let options = AdapterOptions { rank: None, alpha: 16.0, alpha_pattern, rank_stabilised: false };
        assert_eq!(options.scale("a.b.v", 4), 4.0);
        assert_eq!(options.scale("a.b.q", 4), 8.0);
        assert_eq!(options.scale("a.bb.q", 4), 4.0);
        assert_eq!(AdapterOptions { rank_stabilised: true, ..options }.scale("v", 4), 8.0);
    }
}
