//! Tokens sorted by expert, and the tiles of the products over them: `kernels/permute.cu`.

use super::product::tile_rows;
use super::{int, push, shared, Address, Arithmetic, Launches, WeightType};
use crate::error::KernelError;

/// Tokens that a block counts; `counts` has `ceil(tokens / PERMUTE_CHUNK) * experts` integers.
pub const PERMUTE_CHUNK: usize = 256;

/// Where a permutation reads and writes; integers are 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Permutation {
    /// `[tokens]`, -1 for those that go nowhere.
    pub expert: Address,
    /// Scratch, `[ceil(tokens / PERMUTE_CHUNK), experts]`.
    pub counts: Address,
    /// `[experts + 1]`: where each expert's tokens begin in `order`.
    pub offsets: Address,
    /// `[tokens]`: the first `offsets[experts]` are set.
    pub order: Address,
    /// `[most_tiles, 3]`.
    pub tiles: Address,
}

/// Tiles that a product over `tokens` tokens of `experts` experts may have.
pub fn most_tiles(arithmetic: Arithmetic, weight: WeightType, tokens: usize, experts: usize) -> usize {
    tokens / tile_rows(arithmetic, weight, tokens) + experts.min(tokens)
}

/// Pushes the launches that sort `tokens` tokens for products of this arithmetic and type of weights.
pub fn permute(
    launches: &mut Launches,
    arithmetic: Arithmetic,
    weight: WeightType,
    p: &Permutation,
    tokens: usize,
    experts: usize,
) -> Result<(), KernelError> {
    if tokens == 0 {
        return Ok(());
    }
    let chunks = tokens.div_ceil(PERMUTE_CHUNK);
    let grid = [int("chunks of tokens", chunks)? as u32, 1, 1];
    let (n, e) = (int("routed tokens", tokens)?, int("experts", experts)?);
    let counters = shared("experts", experts.saturating_mul(4))?;
    push(launches, "permute_count", grid, 256, counters, vec![p.expert.into(), n.into(), e.into(), p.counts.into()]);
    let rows = int("rows of a tile", tile_rows(arithmetic, weight, tokens))?;
    let tiles = int("tiles", most_tiles(arithmetic, weight, tokens, experts))?;
    push(
        launches,
        "permute_scan",
        [1, 1, 1],
        1024,
        shared("experts", experts.saturating_mul(8))?,
        vec![
            p.counts.into(),
            int("chunks of tokens", chunks)?.into(),
            e.into(),
            rows.into(),
            tiles.into(),
            p.offsets.into(),
            p.tiles.into(),
        ],
    );
    let arguments = vec![p.expert.into(), p.counts.into(), n.into(), e.into(), p.order.into()];
    push(launches, "permute_place", grid, 256, counters, arguments);
    Ok(())
}
