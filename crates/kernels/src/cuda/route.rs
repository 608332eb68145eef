//! Top-1 routing on the device: `kernels/route.cu`. The rules are those of [`crate::route_top1`].

use super::{int, push, shared, Address, Launches, WARP};
use crate::error::KernelError;
use crate::{Rounding, RouteOptions};

/// Where routing reads and writes; integers are 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Route {
    /// `[tokens, experts]`, float32.
    pub logits: Address,
    /// `[tokens]` bytes, 0 for padding; 0: none. Used with [`RouteOptions::ignore_padding`] only.
    pub mask: Address,
    /// `[groups + 1]`: where each group's tokens begin.
    pub starts: Address,
    /// `[groups]`: tokens that an expert takes; -1: as many as come.
    pub capacities: Address,
    /// `[tokens]` each: as in [`crate::Routes`].
    pub expert: Address,
    pub slot: Address,
    pub weight: Address,
}

/// The number of a type in the kernels.
pub(super) fn rounding(rounding: Rounding) -> i32 {
    match rounding {
        Rounding::None => 0,
        Rounding::F16 => 1,
        Rounding::Bf16 => 2,
    }
}

/// Warps a block of the choice: as many as their probabilities find room for.
fn choosing_warps(experts: usize) -> Result<(u32, u32), KernelError> {
    let each = experts.saturating_mul(4);
    let warps = [8u32, 4, 2, 1].into_iter().find(|w| each.saturating_mul(*w as usize) <= 32 << 10).unwrap_or(1);
    Ok((warps, shared("experts", each.saturating_mul(warps as usize))?))
}

/// Pushes the launches that route `tokens` tokens in `groups` groups, the longest of `longest`. Capacities are in
/// `r.capacities`, not in `options`.
pub fn route(
    launches: &mut Launches,
    r: &Route,
    tokens: usize,
    groups: usize,
    longest: usize,
    experts: usize,
    options: &RouteOptions,
) -> Result<(), KernelError> {
    if experts == 0 {
        return Err(KernelError::Dimension { what: "experts", expected: "1 or more", found: 0 });
    }
    let (warps, bytes) = choosing_warps(experts)?;
    let mask = if options.ignore_padding { r.mask } else { 0 };
    let (n, e) = (int("routed tokens", tokens)?, int("experts", experts)?);
    let grid = [(n as u32).div_ceil(warps), 1, 1];
    push(
        launches,
        "route_choose",
        grid,
        warps * WARP,
        bytes,
        vec![
            r.logits.into(),
            mask.into(),
            n.into(),
            e.into(),
            rounding(options.rounding).into(),
            r.expert.into(),
            r.weight.into(),
        ],
    );
    let grid = [int("groups", groups)? as u32, 1, 1];
    let mut arguments = vec![r.expert.into(), r.slot.into(), r.weight.into(), r.starts.into(), r.capacities.into()];
    let zero_dropped = i32::from(options.zero_dropped).into();
    if options.batch_prioritized {
        arguments.push(zero_dropped);
        let bytes = shared("tokens per group, with the most probable first", longest.saturating_mul(4))?;
        push(launches, "route_slots_by_weight", grid, 256, bytes, arguments);
    } else {
        arguments.extend([e.into(), zero_dropped]);
        push(launches, "route_slots", grid, WARP, shared("experts", experts.saturating_mul(4))?, arguments);
    }
    Ok(())
}

/// Adds to `logits_grad` the gradient of the chosen probabilities `weight_grad` `[tokens]`.
pub fn route_backward(
    launches: &mut Launches,
    r: &Route,
    weight_grad: Address,
    logits_grad: Address,
    tokens: usize,
    experts: usize,
) -> Result<(), KernelError> {
    let n = int("routed tokens", tokens)?;
    let arguments = vec![
        r.logits.into(),
        r.expert.into(),
        weight_grad.into(),
        n.into(),
        int("experts", experts)?.into(),
        logits_grad.into(),
    ];
    push(launches, "route_backward", [(n as u32).div_ceil(8), 1, 1], 8 * WARP, 0, arguments);
    Ok(())
}
