//! Matrix products, of one pair of matrices or of ragged groups: `kernels/product.cu`.

use super::{int, push, side, Address, Argument, Launches};
use crate::error::KernelError;
use crate::Activation;

/// What operands are rounded to before they are multiplied; sums are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// Float32, whatever the weights are stored in.
    #[default]
    Float32,
    /// Tensor cores over tf32 (float32 weights only; others as [`Arithmetic::Float32`]).
    Tf32,
    /// Tensor cores over weights as they are stored (bfloat16, float16) and inputs as the sum of two such numbers, 16 and 22
    /// bits of significand, in twice the products: as near to float32 as the order of its sums. Others as with
    /// [`Arithmetic::Float32`], but for quantised weights, which are as with [`Arithmetic::Half`].
    Split,
    /// Tensor cores over what the weights are stored in: bfloat16, or float16 with inputs held to ±65504; quantised and
    /// float32 weights as bfloat16.
    Half,
}

/// How the second operand is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    Bf16,
    /// As [`crate::Values::I8`], with a float32 scale per row and `block` columns (all of them, as checkpoints have it).
    Int8 {
        block: usize,
    },
    /// As [`crate::Values::I4`], with a scale per row and `block` columns. Rows are whole blocks of 32 columns.
    Int4 {
        block: usize,
    },
}

impl WeightType {
    fn name(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
            Self::Int8 { .. } => 3,
            Self::Int4 { .. } => 4,
        }
    }
    fn block(self) -> usize {
        match self {
            Self::Int8 { block } | Self::Int4 { block } => block,
            _ => 1,
        }
    }
}

/// What a product does beside multiplying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Rows of `a` are those that `order` names.
    pub gather: bool,
    /// Rows of `y` are those that `order` names, times `row_weight`.
    pub scatter: bool,
    /// Adds to `y`.
    pub add: bool,
    /// Multiplies what is in `y`.
    pub multiply: bool,
    /// Groups are parts of the summed dimension.
    pub ragged_k: bool,
}

/// `y[m, n] = act(Σ_k a[m, k] · b[n, k])`, in float32 but for `b`. Strides are in elements. The kernel's `struct Product`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Product {
    pub a: Address,
    pub a_row: usize,
    pub a_k: usize,
    pub b: Address,
    /// `[groups]` addresses, in the place of `b`.
    pub b_table: Address,
    pub b_row: usize,
    pub b_k: usize,
    /// Of quantised weights, `[rows, ceil(columns / block)]`.
    pub scales: Address,
    pub scale_table: Address,
    pub y: Address,
    pub y_table: Address,
    pub y_row: usize,
    pub order: Address,
    pub row_weight: Address,
    /// From [`super::permute`], for this product's [`tile_rows`].
    pub tiles: Address,
    pub tile_count: usize,
    /// `[groups + 1]`, with `ragged_k`.
    pub offsets: Address,
    pub groups: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub flags: Flags,
}

/// Rows from which tiles pay; fewer are multiplied a warp a column.
const MANY_ROWS: usize = 17;
const FEW_ROWS: usize = 8;

/// A product's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Few,
    Exact,
    Tensor,
}

impl Method {
    /// `rows`: of all groups together; `groups`: 1 for a single product.
    pub(super) fn of(arithmetic: Arithmetic, weight: WeightType, rows: usize, ragged_k: bool) -> Self {
        if rows < MANY_ROWS && !ragged_k {
            return Self::Few;
        }
        match (arithmetic, weight) {
            (Arithmetic::Half, _) | (Arithmetic::Tf32, WeightType::F32) => Self::Tensor,
            (Arithmetic::Split, kind) if kind != WeightType::F32 => Self::Tensor,
            _ => Self::Exact,
        }
    }

    /// Rows of y that a block makes.
    pub(super) fn tile_rows(self) -> usize {
        match self {
            Self::Few => FEW_ROWS,
            Self::Exact => 64,
            Self::Tensor => 128,
        }
    }
}

/// Rows of a tile of the grouped product of `rows` rows.
pub(super) fn tile_rows(arithmetic: Arithmetic, weight: WeightType, rows: usize) -> usize {
    Method::of(arithmetic, weight, rows, false).tile_rows()
}

/// Pushes the product's launch. In a grouped one `m` is the number of rows of all groups.
pub fn product(
    launches: &mut Launches,
    arithmetic: Arithmetic,
    weight: WeightType,
    activation: Activation,
    p: &Product,
) -> Result<(), KernelError> {
    let method = Method::of(arithmetic, weight, p.m, p.flags.ragged_k);
    let columns = if p.b_k == 1 { p.b_row } else { p.b_k };
    if matches!(weight, WeightType::Int4 { .. }) && !columns.is_multiple_of(32) {
        let expected = "a multiple of 32";
        return Err(KernelError::Dimension { what: "columns of int4 weights", expected, found: columns });
    }
    const EXACT: [&str; 5] =
        ["product_exact_f32", "product_exact_f16", "product_exact_bf16", "product_exact_int8", "product_exact_int4"];
    const FEW: [&str; 5] =
        ["product_few_f32", "product_few_f16", "product_few_bf16", "product_few_int8", "product_few_int4"];
    const HALF: [&str; 5] =
        ["product_bf16_f32", "product_f16_f16", "product_bf16_bf16", "product_bf16_int8", "product_bf16_int4"];
    // Columns of a block, and its shared memory: for tiles two buffers of both operands.
    const TENSOR_BYTES: u32 = 2 * (128 + 128) * 20 * 4;
    let (kernel, columns, shared_bytes) = match method {
        Method::Few => (FEW[weight.name()], 8, 0),
        Method::Exact => (EXACT[weight.name()], 64, 2 * (64 + 64) * 17 * 4),
        Method::Tensor if arithmetic == Arithmetic::Tf32 => ("product_tf32_f32", 128, TENSOR_BYTES),
        Method::Tensor if arithmetic == Arithmetic::Split && weight == WeightType::Bf16 => {
            ("product_split_bf16", 128, TENSOR_BYTES)
        }
        Method::Tensor if arithmetic == Arithmetic::Split && weight == WeightType::F16 => {
            ("product_split_f16", 128, TENSOR_BYTES)
        }
        Method::Tensor => (HALF[weight.name()], 128, TENSOR_BYTES),
    };
    let tiles = if p.tiles != 0 { p.tile_count } else { p.m.div_ceil(method.tile_rows()) };
    let depth = if p.flags.ragged_k { p.groups } else { 1 };
    // Columns first: blocks that follow one another read the same rows, and tiles may be many.
    let grid = [
        u32::try_from(p.n.div_ceil(columns)).map_err(|_| KernelError::TooLarge { what: "columns of a product" })?,
        side("tiles of a product", tiles)?,
        side("groups of a product", depth)?,
    ];
    push(launches, kernel, grid, 256, shared_bytes, vec![p.argument(weight, activation)?]);
    Ok(())
}

impl Product {
    fn argument(&self, weight: WeightType, activation: Activation) -> Result<Argument, KernelError> {
        let mut bytes = Vec::with_capacity(160);
        let mut wide = |value: u64| bytes.extend_from_slice(&value.to_ne_bytes());
        wide(self.a);
        wide(self.a_row as u64);
        wide(self.a_k as u64);
        wide(self.b);
        wide(self.b_table);
        wide(self.b_row as u64);
        wide(self.b_k as u64);
        wide(self.scales);
        wide(self.scale_table);
        wide(self.y);
        wide(self.y_table);
        wide(self.y_row as u64);
        wide(self.order);
        wide(self.row_weight);
        wide(self.tiles);
        wide(self.offsets);
        let f = self.flags;
        let flags = i32::from(f.gather)
            | i32::from(f.scatter) << 1
            | i32::from(f.add) << 2
            | i32::from(f.multiply) << 3
            | i32::from(f.ragged_k) << 4;
        let block = weight.block();
        if block == 0 {
            return Err(KernelError::Dimension { what: "block of quantised weights", expected: "1 or more", found: 0 });
        }
        for value in [
            int("rows of a product", self.m)?,
            int("columns of a product", self.n)?,
            int("summed elements of a product", self.k)?,
            activation as i32,
            flags,
            int("block of quantised weights", block)?,
        ] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        Ok(Argument(bytes))
    }
}
