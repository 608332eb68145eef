//! Which expert takes each token: the router's probabilities under a policy.

use half::{bf16, f16};
use serde_json::Value;
use switch_kernels::{route_top1, Rounding, RouteOptions, Routes};

use crate::config::{RouterDtype, SwitchTransformersConfig};
use crate::error::{code, ModelError, Result};
use crate::rows::Rows;

/// How tokens are given to experts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum RoutingPolicy {
    /// transformers': `expert_capacity` tokens per expert and row over the current call, in order of position.
    #[default]
    Reference,
    /// No capacity: every token reaches its expert.
    Dropless,
    /// The original implementation's (flaxformer): a capacity per group, by factor (`ceil(tokens · factor / experts)`)
    /// or fixed, padding left out, and by option the most probable tokens first.
    Original { capacity_factor: Option<f64>, expert_capacity: Option<usize>, batch_prioritized: bool },
}

impl RoutingPolicy {
    /// `{ "type": "reference" | "dropless" | "original", … }` of the contract.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fault = |message: String| ModelError::new(code::INVALID_OPTION, format!("routing: {message}"));
        if value.is_null() {
            return Ok(Self::Reference);
        }
        let kind = value.as_str().or_else(|| value.get("type").and_then(Value::as_str));
        match kind {
            Some("reference") => Ok(Self::Reference),
            Some("dropless") => Ok(Self::Dropless),
            Some("original") => {
                let factor = match value.get("capacity_factor").filter(|v| !v.is_null()) {
                    None => None,
                    Some(v) => Some(
                        v.as_f64()
                            .filter(|f| f.is_finite() && *f > 0.0)
                            .ok_or_else(|| fault(format!("capacity_factor: found {v}, expected a number above 0")))?,
                    ),
                };
                let capacity = match value.get("expert_capacity").filter(|v| !v.is_null()) {
                    None => None,
                    Some(v) => Some(v.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
                        fault(format!("expert_capacity: found {v}, expected a whole number of 0 or more"))
                    })?),
                };
                let batch_prioritized = match value.get("batch_prioritized_routing").filter(|v| !v.is_null()) {
                    None => false,
                    Some(v) => v.as_bool().ok_or_else(|| {
                        fault(format!("batch_prioritized_routing: found {v}, expected true or false"))
                    })?,
                };
                Ok(Self::Original { capacity_factor: factor, expert_capacity: capacity, batch_prioritized })
            }
            _ => Err(fault(format!("found {value}, expected type reference, dropless or original"))),
        }
    }

    /// The kernel's options for groups of `tokens` tokens.
    pub fn options(&self, config: &SwitchTransformersConfig, tokens: usize, dtype: RouterDtype) -> RouteOptions {
        let mut options = match *self {
            Self::Reference => RouteOptions::reference(config.expert_capacity),
            Self::Dropless => RouteOptions::dropless(),
            Self::Original { capacity_factor, expert_capacity, batch_prioritized } => {
                let by_factor = |f: f64| (tokens as f64 * f / config.num_experts as f64).ceil() as usize;
                let capacity = expert_capacity.or(capacity_factor.map(by_factor)).unwrap_or(config.expert_capacity);
                RouteOptions::original(capacity, batch_prioritized)
            }
        };
        options.ignore_padding |= config.router_ignore_padding_tokens;
        options.rounding = rounding(dtype);
        options
    }
}

/// A router's type as the kernels name it.
pub fn rounding(dtype: RouterDtype) -> Rounding {
    match dtype {
        RouterDtype::Float32 => Rounding::None,
        RouterDtype::Float16 => Rounding::F16,
        RouterDtype::Bfloat16 => Rounding::Bf16,
    }
}

/// Rounds to the router's type in place, as a cast to it and back would.
pub fn round_to(dtype: RouterDtype, values: &mut [f32]) {
    match dtype {
        RouterDtype::Float32 => {}
        RouterDtype::Float16 => values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
        RouterDtype::Bfloat16 => values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
    }
}

/// Routes flat `logits` `[tokens, experts]`, counting capacity per row. Probabilities are rounded to `dtype`.
pub fn route(
    logits: &[f32],
    rows: &Rows,
    config: &SwitchTransformersConfig,
    policy: &RoutingPolicy,
    dtype: RouterDtype,
) -> Result<Routes> {
    let experts = config.num_experts;
    if let Some(len) = rows.common_len() {
        let options = policy.options(config, len, dtype);
        return Ok(route_top1(logits, rows.count(), len, experts, rows.mask(), &options)?);
    }
    let mut routes = Routes::default();
    for (start, len) in rows.spans() {
        let part = logits
            .get(start * experts..(start + len) * experts)
            .ok_or_else(|| ModelError::internal("router logits are shorter than their rows"))?;
        let options = policy.options(config, len, dtype);
        let row = route_top1(part, 1, len, experts, rows.row_mask(start, len), &options)?;
        routes.expert.extend(row.expert);
        routes.slot.extend(row.slot);
        routes.weight.extend(row.weight);
    }
    Ok(routes)
}
