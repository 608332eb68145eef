//! Routing alone: decisions of a policy over given router logits.

use serde::Deserialize;
use serde_json::{json, Value};
use switch_model::{RoutingPolicy, Rows, SwitchTransformersConfig};

use super::Call;
use crate::failure::Failure;
use crate::request::parse;
use crate::wire::{Reply, Tensor};

#[derive(Deserialize)]
struct Route {
    num_experts: u64,
    expert_capacity: u64,
    policy: Value,
    #[serde(default)]
    ignore_padding_tokens: bool,
}

pub fn route(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Route = parse("route", call.request)?;
    call.tensors.only(&["router_logits", "padding_mask"])?;
    let Some((logits, dims)) = call.tensors.floats("router_logits")? else {
        return Err(Failure::new("INVALID_INPUT", "router_logits: found none, expected [groups, tokens, experts]"));
    };
    let config = SwitchTransformersConfig::from_json(&json!({
        "num_experts": request.num_experts,
        "expert_capacity": request.expert_capacity,
        "router_ignore_padding_tokens": request.ignore_padding_tokens,
    }))?;
    let (groups, tokens) = match dims.as_slice() {
        &[groups, tokens, experts] if experts == config.num_experts && groups > 0 && tokens > 0 => (groups, tokens),
        _ => {
            let expected = format!("[groups, tokens, {}]", config.num_experts);
            return Err(Failure::new("INVALID_INPUT", format!("router_logits: found {dims:?}, expected {expected}")));
        }
    };
    let mask = match call.tensors.get("padding_mask") {
        None => None,
        Some(_) => call.tensors.flags("padding_mask", groups, tokens)?,
    };
    let rows = Rows::rectangle(groups, tokens, mask)?;
    let policy = RoutingPolicy::from_json(&request.policy)?;
    let routes = switch_model::route(&logits, &rows, &config, &policy, config.router_dtype)?;
    let dims = [groups, tokens];
    Ok(Reply {
        json: "{}".into(),
        tensors: vec![
            Tensor::from_i32("expert", &dims, &routes.expert),
            Tensor::from_i32("slot", &dims, &routes.slot),
            Tensor::from_f32("weight", &dims, &routes.weight),
        ],
    })
}
