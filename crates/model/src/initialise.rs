//! Random weights: as the reference starts (`_init_weights`), or as the paper advises (section 2.4).

use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use half::{bf16, f16};

use crate::config::SwitchTransformersConfig;
use crate::error::Result;
use crate::parameters::{specs, Architecture, ParameterSpec, Parameters, Role};
use crate::quantisation::Recipe;
use crate::weight::{out_of_memory, try_filled, try_zeros, StorageDtype, Weight};

/// Which distribution to draw from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Initializer {
    /// transformers': normal, with a deviation per role.
    #[default]
    Reference,
    /// Truncated normal (two deviations) of variance `0.1 / fan_in`: a tenth of the usual scale, which keeps sparse
    /// models stable.
    Paper,
}

/// Draws every parameter. A parameter's values depend on `seed` and its own name only. More than `memory_bytes` of
/// weights are refused before the first is drawn. What `recipe` quantises is drawn in float32 first.
#[allow(clippy::too_many_arguments)] // Each is a choice of its own.
pub fn initialise(
    config: &SwitchTransformersConfig,
    architecture: Architecture,
    seed: u64,
    initializer: Initializer,
    dtype: StorageDtype,
    recipe: Option<&Recipe>,
    memory_bytes: Option<u64>,
) -> Result<Parameters> {
    let specs = specs(config, architecture);
    // Memory that the system promises and does not have ends the process when it is touched: look first.
    let elements = |spec: &ParameterSpec| spec.shape.iter().map(|d| *d as u128).product::<u128>();
    let bytes: u128 = specs
        .iter()
        .map(|spec| match recipe {
            Some(recipe) => recipe.bytes(spec, dtype),
            None => elements(spec) * dtype.size() as u128,
        })
        .sum();
    let limit = memory_bytes.map_or(usize::MAX as u128, u128::from);
    if bytes > limit {
        return Err(out_of_memory(bytes));
    }
    let mut parameters = Parameters::default();
    for spec in specs {
        let weight = match recipe.and_then(|recipe| recipe.kind(&spec)) {
            Some(kind) => draw(config, &spec, seed, initializer, StorageDtype::F32)?.quantise(kind, &spec.name)?,
            None => draw(config, &spec, seed, initializer, dtype)?,
        };
        parameters.insert(spec.name, weight);
    }
    Ok(parameters)
}

fn draw(
    config: &SwitchTransformersConfig,
    spec: &ParameterSpec,
    seed: u64,
    initializer: Initializer,
    dtype: StorageDtype,
) -> Result<Weight> {
    let elements = spec.elements().ok_or_else(|| out_of_memory(u128::MAX))?;
    let factor = config.initializer_factor;
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv1a(&spec.name));
    let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
    let mut next: Box<dyn FnMut() -> f32> = match (spec.role, initializer) {
        (Role::Norm, _) => Box::new(|| factor as f32),
        (Role::RouterBias, _) => Box::new(|| 0.0),
        (role, Initializer::Reference) => {
            let deviation = factor * deviation(config, role);
            Box::new(move || (normal(&mut rng) * deviation) as f32)
        }
        (_, Initializer::Paper) => {
            let fan_in = spec.shape.last().copied().unwrap_or(1).max(1);
            // A normal cut off at two deviations keeps 0.8796 of its deviation.
            let deviation = (0.1 * factor / fan_in as f64).sqrt() / 0.879_596_256_610_342_4;
            Box::new(move || loop {
                let z = normal(&mut rng);
                if z.abs() <= 2.0 {
                    return (z * deviation) as f32;
                }
            })
        }
    };
    match dtype {
        // Quantised ones are drawn in float32.
        StorageDtype::F32 | StorageDtype::Int8 | StorageDtype::Int4 => {
            let mut values = try_zeros(elements)?;
            values.iter_mut().for_each(|v| *v = next());
            Weight::from_f32(values, &spec.shape)
        }
        StorageDtype::Bf16 => {
            let mut bits = try_filled(elements, 0u16)?;
            bits.iter_mut().for_each(|b| *b = bf16::from_f32(next()).to_bits());
            Weight::from_half_bits(bits, dtype, &spec.shape)
        }
        StorageDtype::F16 => {
            let mut bits = try_filled(elements, 0u16)?;
            bits.iter_mut().for_each(|b| *b = f16::from_f32(next()).to_bits());
            Weight::from_half_bits(bits, dtype, &spec.shape)
        }
    }
}

/// Standard deviations of the reference's `_init_weights`, before `initializer_factor`.
fn deviation(config: &SwitchTransformersConfig, role: Role) -> f64 {
    let (d_model, d_kv) = (config.d_model as f64, config.d_kv as f64);
    match role {
        Role::Embedding | Role::StackEmbedding | Role::Head | Role::Router => 1.0,
        Role::Query => (d_model * d_kv).powf(-0.5),
        // An expert's `wo` too: the reference draws it with d_model, not d_ff.
        Role::KeyOrValue | Role::RelativeBias | Role::DenseIn | Role::ExpertIn | Role::ExpertOut => d_model.powf(-0.5),
        Role::AttentionOutput => (config.inner_dim() as f64).powf(-0.5),
        Role::DenseOut => (config.d_ff as f64).powf(-0.5),
        Role::Norm | Role::RouterBias => 0.0,
    }
}

/// A stable hash of a name (FNV-1a).
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
