//! The products in AMX tiles (see [`crate::amx`]), to float32's accuracy or rounded to bfloat16.
//!
//! Both operands are cut in parts and packed, 32 rows or columns at a time. The smaller operand is packed whole, for
//! [`DEPTH`] summed elements at a time; a task packs a panel of the other one, which stays in its L2 cache, and goes with it
//! through the packed whole. Of products of one shape that share an operand ([`run_together`]) that one is packed once.
//!
//! Processor time of one thread on a Sapphire Rapids server whose other core and caches were busy, GFLOP/s, of 1024 rows
//! by 3072 by 768: 220 in three parts (six products), 325 in two (three), 620 rounded (one); AVX-512's vectors 141, MKL 190. With
//! 128 or 256 summed elements per pass in the place of 512, so that a block stays in the L1 cache: 5 to 15 % slower for six
//! products and one, the same for three; writing the sums more often costs what the cache brings.

use super::pack::{self, Source};
use super::{in_panels, Lies, Panel, Product};
use crate::amx::{self, SIDE};
use crate::error::KernelError;
use crate::matrix::Values;
use crate::parallel::{self, Disjoint};
use crate::precision::Precision;
use crate::scratch;
use std::arch::asm;
use std::ops::Range;

/// Summed elements per pass. Part of the numerical definition.
const DEPTH: usize = 512;

/// Rows (or columns) of a panel at most: 4 blocks of 32, 393 KB in three parts.
const MAX_PANEL: usize = 128;

/// Fewer rows or columns than this are not worth the packing.
const MIN_SIDE: usize = 24;
const MIN_DEPTH: usize = 16;

/// Whether a product's shape fits the tiles.
pub(super) fn suits(product: &Product<'_>) -> bool {
    let quantised = matches!(product.b, Values::I8 { .. } | Values::I4 { .. });
    !quantised && product.rows >= MIN_SIDE && product.columns >= MIN_SIDE && product.depth >= MIN_DEPTH
}

/// Elements of packed operands that products have together at most; past that they are taken one after another.
const MAX_WHOLE: usize = 2 << 20;

/// [`super::run`] in tiles.
pub(super) fn run(precision: Precision, product: &Product<'_>, c: &mut [f32]) -> Result<(), KernelError> {
    run_together(precision, std::slice::from_ref(product), &[Disjoint::new(c)])
}

/// [`super::run_together`] in tiles.
pub(super) fn run_together(
    precision: Precision,
    products: &[Product<'_>],
    cs: &[Disjoint<'_>],
) -> Result<(), KernelError> {
    let Some(first) = products.first() else { return Ok(()) };
    // The way forward, for which weights are transposed, is never cut to two.
    let parts = if first.b_transposed { precision.parts() } else { precision.backward_parts() };
    let Product { rows, columns, depth, .. } = *first;
    let by_rows = rows >= columns;
    let (long, short) = if by_rows { (rows, columns) } else { (columns, rows) };
    let block_bytes = DEPTH.min(depth).div_ceil(amx::DEPTH) * amx::step_bytes(parts);
    let blocks = short.div_ceil(SIDE);
    let size = blocks.checked_mul(block_bytes / 4).ok_or(KernelError::TooLarge { what: "a packed operand" })?;
    // What is packed whole for each product: the first product's that has the same operand.
    let whole_of: Vec<usize> = (0..products.len())
        .map(|index| products.iter().position(|other| same_short(other, &products[index], by_rows)).unwrap_or(index))
        .collect();
    let mut wholes: Vec<usize> = whole_of.clone();
    wholes.sort_unstable();
    wholes.dedup();
    if products.len() > 1 && wholes.len().saturating_mul(size) > MAX_WHOLE {
        for (product, c) in products.iter().zip(cs) {
            run_together(precision, std::slice::from_ref(product), std::slice::from_ref(c))?;
        }
        return Ok(());
    }
    let mut whole = scratch::take("packed operands", wholes.len() * size)?;
    for start in (0..depth).step_by(DEPTH) {
        let summed = start..(start + DEPTH).min(depth);
        let pass_of = |index: usize| Pass { product: &products[index], summed: summed.clone(), parts, block_bytes };
        {
            let whole = Disjoint::new(&mut whole);
            parallel::for_each_range(wholes.len() * blocks, 1, |range| {
                for place in range {
                    let (pass, block) = (pass_of(wholes[place / blocks]), place % blocks);
                    let to = whole.as_ptr().wrapping_add(place * block_bytes / 4).cast();
                    let range = block * SIDE..((block + 1) * SIDE).min(short);
                    // SAFETY: blocks do not overlap.
                    unsafe {
                        if by_rows {
                            pass.pack_right(range, to)
                        } else {
                            pass.pack_left(range, to)
                        }
                    };
                }
            });
        }
        let whole: &[f32] = &whole;
        let work = short.saturating_mul(summed.len()).saturating_mul(products.len());
        in_panels(long, SIDE, MAX_PANEL, work, |range| {
            let own_blocks = range.len().div_ceil(SIDE);
            let mut own = scratch::take("a packed panel", own_blocks * block_bytes / 4)?;
            for (index, c) in cs.iter().enumerate().take(products.len()) {
                let pass = pass_of(index);
                let packed = index > 0 && same_long(&products[index - 1], &products[index], by_rows);
                for block in if packed { 0..0 } else { 0..own_blocks } {
                    let to = own.as_mut_ptr().wrapping_add(block * block_bytes / 4).cast();
                    let range = range.start + block * SIDE..(range.start + (block + 1) * SIDE).min(range.end);
                    // SAFETY: the buffer holds these blocks.
                    unsafe {
                        if by_rows {
                            pass.pack_left(range, to)
                        } else {
                            pass.pack_right(range, to)
                        }
                    };
                }
                let own = Packed { data: own.as_ptr().cast(), blocks: own_blocks };
                let place = wholes.iter().position(|whole| *whole == whole_of[index]).unwrap_or(0);
                let whole = Packed { data: whole[place * size..].as_ptr().cast(), blocks };
                // SAFETY: AMX is active; operands are packed; tasks write different panels.
                unsafe {
                    if by_rows {
                        pass.multiply(&own, &whole, &Panel { rows: range.clone(), columns: 0..columns, c }, false);
                    } else {
                        pass.multiply(&whole, &own, &Panel { rows: 0..rows, columns: range.clone(), c }, true);
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn same_left(one: &Product<'_>, other: &Product<'_>) -> bool {
    std::ptr::eq(one.a, other.a) && one.lies == other.lies && one.scale == other.scale
}

fn same_right(one: &Product<'_>, other: &Product<'_>) -> bool {
    match (one.b, other.b) {
        (Values::F32(one), Values::F32(other)) => std::ptr::eq(one, other),
        _ => false,
    }
}

/// Whether two products have the operand in common that is packed whole.
fn same_short(one: &Product<'_>, other: &Product<'_>, by_rows: bool) -> bool {
    match by_rows {
        true => same_right(one, other),
        false => same_left(one, other),
    }
}

/// Whether two products have the operand in common of which tasks pack panels.
fn same_long(one: &Product<'_>, other: &Product<'_>, by_rows: bool) -> bool {
    match by_rows {
        true => same_left(one, other),
        false => same_right(one, other),
    }
}

/// Blocks of 32 rows or columns, one after another.
#[derive(Clone, Copy)]
struct Packed {
    data: *const u8,
    blocks: usize,
}

// SAFETY: only read.
unsafe impl Sync for Packed {}

/// Some of the summed elements.
struct Pass<'a> {
    product: &'a Product<'a>,
    summed: Range<usize>,
    parts: usize,
    block_bytes: usize,
}

impl Pass<'_> {
    /// # Safety
    /// The rows exist, `to` holds a block, and AMX is active.
    unsafe fn pack_left(&self, rows: Range<usize>, to: *mut u8) {
        let Product { a, lies, depth, rows: all_rows, scale, .. } = *self.product;
        let Range { start, end } = self.summed;
        // SAFETY: the caller's promises; lengths have been checked.
        unsafe {
            match lies {
                Lies::ByRows => {
                    let from = a.as_ptr().add(rows.start * depth + start);
                    let source = Source { from, stride: depth, count: rows.len(), depth: end - start };
                    pack::left_by_rows(self.parts, source, scale, to);
                }
                Lies::ByColumns => {
                    let from = a.as_ptr().add(start * all_rows + rows.start);
                    let source = Source { from, stride: all_rows, count: rows.len(), depth: end - start };
                    pack::left_by_columns(self.parts, source, scale, to);
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::pack_left`], of columns.
    unsafe fn pack_right(&self, columns: Range<usize>, to: *mut u8) {
        let Product { b, columns: stride, .. } = *self.product;
        let Range { start, end } = self.summed;
        let first = start * stride + columns.start;
        let (count, depth) = (columns.len(), end - start);
        if let (true, Values::F32(b)) = (self.product.b_transposed, b) {
            let stride = self.product.depth;
            // SAFETY: the caller's promises; lengths have been checked.
            unsafe {
                let from = b.as_ptr().add(columns.start * stride + start);
                return pack::right_transposed(self.parts, Source { from, stride, count, depth }, to);
            }
        }
        // SAFETY: the caller's promises; lengths have been checked.
        unsafe {
            match b {
                Values::F32(b) => {
                    let from = b.as_ptr().add(first);
                    pack::right(self.parts, Source { from, stride, count, depth }, to);
                }
                Values::Bf16(b) => {
                    let from = b.as_ptr().add(first).cast::<pack::Bf16>();
                    pack::right(self.parts, Source { from, stride, count, depth }, to);
                }
                Values::F16(b) => {
                    let from = b.as_ptr().add(first).cast::<pack::F16>();
                    pack::right(self.parts, Source { from, stride, count, depth }, to);
                }
                // Refused by `suits`.
                Values::I8 { .. } | Values::I4 { .. } => {}
            }
        }
    }

    /// Multiplies packed operands into a panel of the output, block by block: for each block of one operand all blocks of
    /// the other, the right one in the outer loop unless `left_outside`.
    ///
    /// # Safety
    /// AMX is active, operands hold the panel's blocks, and nothing else touches the panel.
    unsafe fn multiply(&self, left: &Packed, right: &Packed, panel: &Panel<'_>, left_outside: bool) {
        let steps = self.summed.len().div_ceil(amx::DEPTH);
        let stride = self.product.columns;
        let add = self.product.add || self.summed.start > 0;
        let mut sums = amx::Block([0.0; SIDE * SIDE]);
        // SAFETY: AMX is active.
        let _tiles = unsafe { amx::Tiles::configure() };
        let (outer, inner) = if left_outside { (left.blocks, right.blocks) } else { (right.blocks, left.blocks) };
        for outer in 0..outer {
            for inner in 0..inner {
                let (i, j) = if left_outside { (outer, inner) } else { (inner, outer) };
                let (row, column) = (panel.rows.start + i * SIDE, panel.columns.start + j * SIDE);
                let height = (panel.rows.end - row).min(SIDE);
                let width = (panel.columns.end - column).min(SIDE);
                // SAFETY: the caller's promises.
                unsafe {
                    let a = left.data.add(i * self.block_bytes);
                    let b = right.data.add(j * self.block_bytes);
                    let c = panel.c.as_ptr().add(row * stride + column);
                    pack::fetch_to_write(c, stride, height);
                    multiply(self.parts, a, b, steps, width > 16, &mut sums);
                    pack::write(&sums, c, stride, height, width, add);
                }
            }
        }
    }
}

/// The product of 32 rows and 32 columns (or, but for two parts, their first 16).
unsafe fn multiply(parts: usize, a: *const u8, b: *const u8, steps: usize, wide: bool, to: &mut amx::Block) {
    let to = to.0.as_mut_ptr();
    // SAFETY: the caller's operands hold these steps, and tiles are configured.
    unsafe {
        if parts == 2 {
            return multiply_two(a, b, steps, to);
        }
        let (left, right) = (amx::Left::split(a, parts), amx::Right { data: b, parts });
        amx::multiply(&left, &right, steps, wide, to, SIDE * 4);
    }
}

/// Two parts by two, without the product of the second ones.
///
/// # Safety
/// Operands hold `steps` steps (1 at least), `to` 32 by 32 elements; tiles are configured.
unsafe fn multiply_two(a: *const u8, b: *const u8, steps: usize, to: *mut f32) {
    debug_assert!(steps > 0);
    // SAFETY: the caller's promises.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm5, [{a} + 1024 + {line}]",
            "tileloadd tmm6, [{b} + 2048 + {line}]",
            "tileloadd tmm7, [{b} + 3072 + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b} + {line}]",
            "tileloadd tmm7, [{b} + 1024 + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{a} + 2048 + {line}]",
            "tileloadd tmm5, [{a} + 3072 + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 4096",
            "add {b}, 4096",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + 2 * {line}], tmm0",
            "tilestored [{to} + 2 * {line} + 64], tmm1",
            "tilestored [{to} + 2 * {line} + 2048], tmm2",
            "tilestored [{to} + 2 * {line} + 2112], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            to = in(reg) to,
            line = in(reg) 64usize,
            options(nostack)
        );
    }
}

const _: () = assert!(amx::step_bytes(2) == 4096 && SIDE == 32);
