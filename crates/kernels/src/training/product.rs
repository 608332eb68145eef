//! Products summed over the rows of their right operand: `c[i, j] (+)= scale · Σ_k a(i, k) · b[k, j]`.
//!
//! That is the form of both ways back through a linear layer, `dy · w` and `dyᵀ · x`, without transposing anything: the left
//! operand is read by rows or by columns. [`run`] cuts the output in panels for the threads; the summed dimension is cut in
//! fixed parts, so sums have one order.

#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod vectors;

use crate::error::KernelError;
#[cfg(target_arch = "x86_64")]
use crate::isa::{self, Isa};
use crate::matrix::Values;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use std::ops::Range;
use std::sync::Mutex;
pub(super) use vectors::{dots, outer, Dots, Outer};

/// How the left operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// `a[i, k]`
    ByRows,
    /// `a[k, i]`
    ByColumns,
}

/// A product's operands, all without gaps between rows.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub a: &'a [f32],
    pub lies: Lies,
    /// `[depth, columns]`, or, `b_transposed`, `[columns, depth]`: only where [`transposes`] says so.
    pub b: Values<'a>,
    pub b_transposed: bool,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// Factor of the left operand.
    pub scale: f32,
    /// Whether the product is added to what `c` holds.
    pub add: bool,
}

/// Computes a product into `c [rows, columns]`. Lengths have been checked.
pub(super) fn run(precision: Precision, product: &Product<'_>, c: &mut [f32]) -> Result<(), KernelError> {
    debug_assert_eq!(product.a.len(), product.rows * product.depth);
    debug_assert!(product.b.len() >= product.depth * product.columns);
    debug_assert_eq!(c.len(), product.rows * product.columns);
    if product.depth == 0 {
        if !product.add {
            c.fill(0.0);
        }
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if isa::active() == Isa::Amx && tiles::suits(product) {
        return tiles::run(precision, product, c);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
    debug_assert!(!product.b_transposed);
    vectors::run(product, c)
}

/// Computes products of the same shape, each into its own `cs`, or, where one adds, into an earlier one's; operands that
/// several have in common are made ready once. Lengths have been checked.
pub(super) fn run_together(
    precision: Precision,
    products: &[Product<'_>],
    cs: &[Disjoint<'_>],
) -> Result<(), KernelError> {
    debug_assert_eq!(products.len(), cs.len());
    #[cfg(target_arch = "x86_64")]
    if let Some(first) = products.first().filter(|first| first.depth > 0 && isa::active() == Isa::Amx) {
        let shape = |p: &Product<'_>| (p.rows, p.columns, p.depth, p.lies, p.b_transposed);
        if products.iter().all(|product| shape(product) == shape(first) && tiles::suits(product)) {
            return tiles::run_together(precision, products, cs);
        }
    }
    for (product, c) in products.iter().zip(cs) {
        // SAFETY: one after another, so that no other part is alive.
        run(precision, product, unsafe { c.slice(0..c.len()) })?;
    }
    Ok(())
}

/// The sum of products of the same shape, of which all but the first add.
pub(super) fn accumulate(precision: Precision, products: &[Product<'_>], c: &mut [f32]) -> Result<(), KernelError> {
    // Of a panel the products are taken one after another.
    let c = Disjoint::new(c);
    run_together(precision, products, &vec![c; products.len()])
}

/// Whether the active instruction set takes a transposed right operand of this product's shape.
pub(super) fn transposes(product: &Product<'_>) -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa::active() == Isa::Amx && matches!(product.b, Values::F32(_)) && tiles::suits(product);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = product;
        false
    }
}

/// Multiply-adds below which another thread costs more than it brings.
const GRAIN: usize = 64 * 1024;

/// Calls `f` with parts of `0..len`, multiples of `unit` (but the last) and at most `most`, in parallel; `work` is what one
/// element costs. Returns the first error.
fn in_panels(
    len: usize,
    unit: usize,
    most: usize,
    work: usize,
    f: impl Fn(Range<usize>) -> Result<(), KernelError> + Sync,
) -> Result<(), KernelError> {
    let per_thread = len.div_ceil(parallel::threads() * 4);
    let size = per_thread.max(GRAIN.div_ceil(work.max(1))).min(most).next_multiple_of(unit);
    let failure = Mutex::new(Ok(()));
    parallel::for_each_task(len.div_ceil(size), |task| {
        let result = f(task * size..((task + 1) * size).min(len));
        if result.is_err() {
            *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = result;
        }
    });
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Part of the output that a task computes.
struct Panel<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    c: &'a Disjoint<'a>,
}
