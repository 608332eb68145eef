//! A block of `x · wᵀ` on one thread: the product under every linear layer, prefill and decoding alike.
//!
//! Both operands are read where they lie, along the summed dimension: a tile of up to 6 rows of `x` by 4 rows of `w`
//! keeps one accumulator vector per output, whose lanes are summed at the end. Nothing is packed, a single row costs
//! one pass over the weights, and each output is summed in one fixed order, so its bits do not depend on the other rows.
//!
//! Versions tried, float32 on one core of a Sapphire Rapids server whose multiply-adds peak at 249 GFLOP/s (AVX-512) and
//! 134 (AVX2), 128 rows through 768 by 768:
//!
//! | version | GFLOP/s |
//! |---|---|
//! | tiles of 6 by 4 over AVX-512, operands where they lie | 134 |
//! | loads at constant offsets in a loop unrolled by 4 | 151 |
//! | operands that are read often copied to cache-line alignment | 183 |
//! | the same code over AVX2, tiles of 3 by 4 | 114 |
//! | the same code over SSE2 (generic), tiles of 2 by 4 | 46 |
//! | AMX (see `tiles.rs`) | 290 |
//!
//! Of few rows the product waits for memory, of which one core reads 17.4 GB/s. 768 by 768 after 768 by 768 out of 1 GiB,
//! GB/s for float32 and bfloat16:
//!
//! | version | 1 row | 4 rows | 8 rows (float32) |
//! |---|---|---|---|
//! | what the processor prefetches by itself | 17.7, 13.0 | 14.0, 9.8 | 10.7 |
//! | prefetched into L1, 4 rows of weights ahead | 14.0, 11.5 | 11.5, 8.7 | 9.8 |
//! | the next 4 rows prefetched into L2 in their order in memory, 3 to 16 KiB ahead | 15.1, 14.0 | 14.2, 11.6 | 12.8 |
//! | prefetched into L2, 8 rows ahead (but for 1 row of float32) | 17.7, 15.5 | 15.5, 12.5 | 13.0 |
//! | past the caches (non-temporal) | -, 7.2 | | |
//!
//! In WebAssembly (one thread, V8, peak of multiply and add 45): tiles of 2 by 4 31, of 3 by 4 26, of 4 by 4 24 (registers
//! spill), of 2 by 4 unrolled by 4 26; see `interleaved.rs` for what many rows use there. Half-precision weights are
//! widened in each tile up to 12 rows, once per panel from there on.
#![allow(clippy::needless_range_loop)] // Counted loops are what unrolls into registers.

mod interleaved;
#[cfg(target_arch = "x86_64")]
mod tiles;

use crate::activation::Activation;
use crate::error::KernelError;
#[cfg(target_arch = "x86_64")]
use crate::isa::{self, Isa};
use crate::matrix::{Matrix, Values};
use crate::precision::Precision;
use crate::quantised;
use crate::scratch;
use crate::simd::{self, Bf16, Element, Op, Simd, F16, F32};
use std::ops::Range;

/// Length of the summed dimension after which lanes are summed and added to the output. Part of the numerical
/// definition: a fixed number keeps sums the same for every shape. 768 is the width of base models; 8 rows of weights and
/// 6 rows of inputs of that length share an L1 cache of 48 KiB.
const RUN: usize = 768;

/// Rows of weights that go through the inputs together, and how far ahead of them weights are prefetched.
const PANEL: usize = 8;

/// Features of a task are a multiple of this.
pub(crate) const TASK_FEATURES: usize = 32;

/// Rows of `x` per pass over the weights, so that they stay in the L2 cache.
const BLOCK_ROWS: usize = 252;

/// Rows from which it pays to widen half-precision weights once rather than in each tile.
const WIDEN_FROM: usize = 13;

/// Rows (or features) from which it pays to copy what is read again and again to where vectors do not cross cache lines.
const COPY_FROM: usize = 48;

/// Where the product's operands lie. `y` has the same rows as `x` and a column per feature of `w`.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// `[n, cols]`, rows `x_stride` apart.
    pub x: &'a [f32],
    pub x_stride: usize,
    pub n: usize,
    pub w: Matrix<'a>,
    /// First element of the output; feature `f` of row `r` is at `r * y_stride + f`.
    pub y: *mut f32,
    pub y_stride: usize,
}

/// Inputs of products with one or several matrices, made ready for the unit that will multiply them.
pub(crate) struct Inputs {
    /// The packed inputs, and which of their segments each segment is.
    #[cfg(target_arch = "x86_64")]
    packed: Option<(tiles::Inputs, Vec<Option<usize>>)>,
    /// Those of quantised weights.
    quantised: Option<quantised::Inputs>,
}

/// Prepares segments of the rows of `x`, each to be multiplied by a matrix of the storage and shape of its own.
/// `segments` gives the rows and the matrix of each; rows lie within `x`.
pub(crate) fn prepare<'a>(
    precision: Precision,
    x: &[f32],
    cols: usize,
    segments: impl Iterator<Item = (Range<usize>, Matrix<'a>)> + Clone,
) -> Result<Inputs, KernelError> {
    let quantised = quantised::Inputs::prepare(x, cols, segments.clone())?;
    #[cfg(target_arch = "x86_64")]
    {
        if isa::active() != Isa::Amx {
            return Ok(Inputs { packed: None, quantised });
        }
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let mut parts = if precision == Precision::Reduced { 2 } else { precision.parts() };
        for (range, w) in segments {
            let suits = tiles::suits(range.len(), w.values, w.rows, cols);
            places.push(suits.then_some(rows.len()));
            if suits {
                // Weights that are cut themselves are cut in as many parts.
                if parts == 2 && !matches!(w.values, Values::Bf16(_)) {
                    parts = precision.parts();
                }
                rows.push(range);
            }
        }
        let packed = if rows.is_empty() { None } else { Some((tiles::Inputs::pack(parts, x, cols, &rows)?, places)) };
        Ok(Inputs { packed, quantised })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (precision, segments);
        Ok(Inputs { quantised })
    }
}

/// Inputs of a second product that a first one of prepared `inputs` fills in, as far as both go through tiles. `segments`
/// gives the matrices of the second product, `cols` their columns. `None` where it is not worth it, or not the same.
pub(crate) fn inputs_to_fill<'a>(
    inputs: &Inputs,
    cols: usize,
    segments: impl Iterator<Item = (Range<usize>, Matrix<'a>)>,
) -> Result<Option<Inputs>, KernelError> {
    #[cfg(target_arch = "x86_64")]
    if let Some((packed, places)) = &inputs.packed {
        let mut rows = Vec::with_capacity(places.len());
        for ((range, w), place) in segments.zip(places) {
            let fits = match w.values {
                Values::Bf16(_) => true,
                Values::F32(_) | Values::F16(_) => packed.parts() != 2,
                Values::I8 { .. } | Values::I4 { .. } => false,
            };
            if !fits || tiles::suits(range.len(), w.values, w.rows, cols) != place.is_some() {
                return Ok(None);
            }
            if place.is_some() {
                rows.push(range);
            }
        }
        let packed = Some((tiles::Inputs::room(packed.parts(), cols, &rows)?, places.clone()));
        return Ok(Some(Inputs { packed, quantised: None }));
    }
    let _ = (inputs, cols, segments);
    Ok(None)
}

/// [`Inputs`] that are being filled in.
pub(crate) struct Filling<'a> {
    #[cfg(target_arch = "x86_64")]
    packed: Option<(tiles::Filling<'a>, &'a [Option<usize>])>,
    lifetime: std::marker::PhantomData<&'a ()>,
}

impl Inputs {
    /// Whether all segments are packed, and `x` is not looked at.
    pub fn are_all_packed(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.packed.as_ref().is_some_and(|(_, places)| places.iter().all(Option::is_some));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// For [`product_into`]; `self` may be used once that is done.
    pub fn filling(&mut self) -> Filling<'_> {
        Filling {
            #[cfg(target_arch = "x86_64")]
            packed: self.packed.as_mut().map(|(packed, places)| (packed.filling(), &places[..])),
            lifetime: std::marker::PhantomData,
        }
    }
}

/// As [`product`], but the results, after `activation`, become inputs of the next product. False where the segment has no
/// place there and nothing was done; an error where there was no memory for it.
///
/// # Safety
/// As [`product`]; `features` are whole multiples of [`TASK_FEATURES`] of `next`'s columns, and no other task has them.
pub(crate) unsafe fn product_into(
    block: Block<'_>,
    inputs: &Inputs,
    segment: usize,
    features: Range<usize>,
    activation: Activation,
    next: &Filling<'_>,
) -> Result<bool, KernelError> {
    #[cfg(target_arch = "x86_64")]
    if let (Some((inputs, _)), Some((next, places))) = (&inputs.packed, &next.packed) {
        if let Some(place) = places[segment] {
            let sink = tiles::Sink::Inputs(next, activation);
            // SAFETY: the caller's promises; inputs are packed only when AMX is active.
            return match unsafe { tiles::product_to(block, inputs, place, features, sink) } {
                true => Ok(true),
                false => Err(KernelError::TooLarge { what: "a panel of weights" }),
            };
        }
    }
    let _ = (block, inputs, segment, features, activation, next);
    Ok(false)
}

/// Rows of a large product that one task should take, so that their packed form stays in its processor's cache whatever
/// features it computes; `n` where nothing is packed.
pub(crate) fn rows_per_task(n: usize, w: &Matrix<'_>) -> usize {
    #[cfg(target_arch = "x86_64")]
    if isa::active() == Isa::Amx && tiles::suits(n, w.values, w.rows, w.cols) {
        return tiles::rows_per_task(n);
    }
    let _ = w;
    n.max(1)
}

/// Computes the columns `features` of `block`, whose inputs are a segment of what was prepared.
///
/// # Safety
/// `block.y` is valid for those columns of all rows, and nothing else touches them meanwhile. `x` has `n` rows, and
/// `features` lies within `w`, whose values have been checked against its shape.
pub(crate) unsafe fn product(block: Block<'_>, inputs: &Inputs, segment: usize, features: Range<usize>) {
    if matches!(block.w.values, Values::I8 { .. } | Values::I4 { .. }) {
        // SAFETY: the caller's promises.
        return unsafe { quantised::product(block, inputs.quantised.as_ref(), segment, features) };
    }
    #[cfg(target_arch = "x86_64")]
    if let Some((packed, places)) = &inputs.packed {
        if let Some(place) = places[segment] {
            // SAFETY: the caller's promises; inputs are packed only when AMX is active.
            return unsafe { tiles::product(block, packed, place, features) };
        }
    }
    // SAFETY: the caller's promises.
    unsafe { product_in_vectors(block, features) }
}

/// As [`product`], without a matrix unit.
unsafe fn product_in_vectors(block: Block<'_>, features: Range<usize>) {
    debug_assert!(block.n == 0 || block.x.len() >= (block.n - 1) * block.x_stride + block.w.cols);
    debug_assert!(features.end <= block.w.rows);
    if block.w.cols == 0 {
        for row in 0..block.n {
            for feature in features.clone() {
                // SAFETY: the caller's promise.
                unsafe { *block.y.add(row * block.y_stride + feature) = 0.0 };
            }
        }
        return;
    }
    simd::run(Product { block, features });
}

struct Product<'a> {
    block: Block<'a>,
    features: Range<usize>,
}

impl Op for Product<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { block, features } = self;
        // SAFETY: `product`'s caller's promises, and `S` is available.
        unsafe {
            match block.w.values {
                Values::F32(w) => product_of::<S, F32>(block, w.as_ptr(), features),
                Values::F16(w) => product_of::<S, F16>(block, w.as_ptr(), features),
                Values::Bf16(w) => product_of::<S, Bf16>(block, w.as_ptr(), features),
                // Not of vectors of float32: `product` sends them elsewhere.
                Values::I8 { .. } | Values::I4 { .. } => {}
            }
        }
    }
}

/// Operands of one run of the summed dimension.
#[derive(Clone, Copy)]
pub(crate) struct Tile<T> {
    pub x: *const f32,
    pub x_stride: usize,
    pub w: *const T,
    pub w_stride: usize,
    pub len: usize,
    pub y: *mut f32,
    pub y_stride: usize,
    /// Whether `y` holds the sum of earlier runs.
    pub add: bool,
    /// Elements from a weight to the one that is prefetched with it; 0 for none.
    pub ahead: usize,
}

#[inline(always)]
unsafe fn product_of<S: Simd, E: Element>(block: Block<'_>, w: *const E::Bits, features: Range<usize>) {
    // SAFETY: the caller's promises.
    if S::INTERLEAVED && block.n >= interleaved::FROM && unsafe { interleaved::product::<S, E>(&block, w, &features) } {
        return;
    }
    let cols = block.w.cols;
    let longest = cols.min(RUN).next_multiple_of(scratch::ALIGNMENT);
    let copy_w = block.n >= if E::WIDENS { WIDEN_FROM } else { COPY_FROM };
    let copy_x = block.n >= COPY_FROM && features.len() >= COPY_FROM;
    // Without memory for a copy it does without.
    let w_copy = copy_w.then(|| scratch::take("copied weights", PANEL * longest).ok()).flatten();
    let rows = block.n.min(BLOCK_ROWS);
    let mut x_copy = copy_x.then(|| scratch::take("copied inputs", rows * longest).ok()).flatten();
    let mut weights = Weights::<E> { first: w, cols, longest, copy: w_copy };
    let (panels, runs) = (features.len().div_ceil(PANEL), cols.div_ceil(RUN));
    let mut row = 0;
    while row < block.n {
        let rows = (block.n - row).min(BLOCK_ROWS);
        let y = block.y.wrapping_add(row * block.y_stride);
        // Rows of weights are read whole, in the order in which they lie in memory; but copied inputs are of one run.
        for index in 0..panels * runs {
            let (panel, run) =
                if x_copy.is_some() { (index % panels, index / panels) } else { (index / runs, index % runs) };
            let (feature, start) = (features.start + panel * PANEL, run * RUN);
            let (count, len) = ((features.end - feature).min(PANEL), (cols - start).min(RUN));
            // SAFETY: all offsets lie within the operands, as the caller promises, and within the copies.
            unsafe {
                let mut x = (block.x.as_ptr().add(row * block.x_stride + start), block.x_stride);
                if let Some(copy) = &mut x_copy {
                    for i in 0..if panel == 0 { rows } else { 0 } {
                        copy_run::<S, F32>(x.0.add(i * x.1), len, copy.as_mut_ptr().add(i * longest), 0);
                    }
                    x = (copy.as_ptr(), longest);
                }
                weights.multiply::<S>(x, rows, start..start + len, feature, count, (y, block.y_stride));
            }
        }
        row += rows;
    }
}

/// The weights of a product, and room for a panel of them.
struct Weights<E: Element> {
    first: *const E::Bits,
    cols: usize,
    longest: usize,
    copy: Option<scratch::Scratch>,
}

impl<E: Element> Weights<E> {
    /// A run of the summed dimension: `rows` rows of `x` by `count` rows of weights from `feature` on. `x` and `y` come
    /// with their strides.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &mut self,
        x: (*const f32, usize),
        rows: usize,
        run: Range<usize>,
        feature: usize,
        count: usize,
        y: (*mut f32, usize),
    ) {
        let (cols, len) = (self.cols, run.len());
        // A single row of float32 is what the processor prefetches well by itself.
        let ahead = if E::WIDENS || rows > 1 { PANEL * cols } else { 0 };
        // SAFETY: the operands have these rows and columns, the copy this room.
        unsafe {
            let w = self.first.add(feature * cols + run.start);
            let y_stride = y.1;
            let (x, x_stride, y, add) = (x.0, x.1, y.0.add(feature), run.start > 0);
            match &mut self.copy {
                Some(copy) => {
                    for i in 0..count {
                        let to = copy.as_mut_ptr().add(i * self.longest);
                        copy_run::<S, E>(w.add(i * cols), len, to, ahead);
                    }
                    let (w, w_stride) = (copy.as_ptr(), self.longest);
                    let tile = Tile { x, x_stride, w, w_stride, len, y, y_stride, add, ahead: 0 };
                    panel::<S, F32>(tile, rows, count);
                }
                None => {
                    panel::<S, E>(Tile { x, x_stride, w, w_stride: cols, len, y, y_stride, add, ahead }, rows, count)
                }
            }
        }
    }
}

/// Copies (and widens) `len` elements; those `ahead` of them are prefetched.
#[inline(always)]
unsafe fn copy_run<S: Simd, E: Element>(from: *const E::Bits, len: usize, to: *mut f32, ahead: usize) {
    let mut i = 0;
    // SAFETY: both are valid for `len` elements.
    unsafe {
        while i + S::N <= len {
            if ahead > 0 {
                S::prefetch(from.wrapping_add(i + ahead));
            }
            S::store(to.add(i), E::load::<S>(from.add(i)));
            i += S::N;
        }
        if i < len {
            S::store_first(to.add(i), E::load_first::<S>(from.add(i), len - i), len - i);
        }
    }
}

/// `rows` rows of `x` by `count` rows of weights, in register tiles.
///
/// # Safety
/// `tile.x` and `tile.w` are valid for `len` elements in each of those rows, `tile.y` for `rows` by `count`.
#[inline(always)]
pub(crate) unsafe fn panel<S: Simd, E: Element>(tile: Tile<E::Bits>, rows: usize, count: usize) {
    let mut row = 0;
    while row < rows {
        let height = (rows - row).min(S::TILE_ROWS);
        let mut column = 0;
        while column < count {
            let width = if count - column < 4 { 1 } else { 4 };
            // SAFETY: within the panel.
            unsafe {
                let tile = Tile {
                    x: tile.x.add(row * tile.x_stride),
                    w: tile.w.add(column * tile.w_stride),
                    y: tile.y.add(row * tile.y_stride + column),
                    ahead: if row == 0 { tile.ahead } else { 0 },
                    ..tile
                };
                match height {
                    1 => columns::<S, E, 1>(tile, width),
                    2 => columns::<S, E, 2>(tile, width),
                    3 => columns::<S, E, 3>(tile, width),
                    4 => columns::<S, E, 4>(tile, width),
                    5 => columns::<S, E, 5>(tile, width),
                    _ => columns::<S, E, 6>(tile, width),
                }
            }
            column += width;
        }
        row += height;
    }
}

#[inline(always)]
unsafe fn columns<S: Simd, E: Element, const ROWS: usize>(tile: Tile<E::Bits>, width: usize) {
    if ROWS > S::TILE_ROWS {
        return; // Never called; keeps tiles that would not fit in registers out of the build.
    }
    // SAFETY: the tile has ROWS rows of `x` and `width` rows of weights.
    unsafe {
        // Every size is code for every instruction set; sums are the same in all of them.
        match width {
            4 if S::INTERLEAVED => apart::<S, E, ROWS>(tile),
            4 => register_tile::<S, E, ROWS, 4>(tile),
            _ => register_tile::<S, E, ROWS, 1>(tile),
        }
    }
}

/// A register tile as a function of its own, for compilers that spill registers within a large one.
#[inline(never)]
unsafe fn apart<S: Simd, E: Element, const ROWS: usize>(tile: Tile<E::Bits>) {
    // SAFETY: the caller's promise.
    unsafe { register_tile::<S, E, ROWS, 4>(tile) }
}

#[inline(always)]
unsafe fn register_tile<S: Simd, E: Element, const ROWS: usize, const COLUMNS: usize>(tile: Tile<E::Bits>) {
    // SAFETY: `x` and `w` are valid for `len` elements per row, `y` for ROWS x COLUMNS.
    unsafe {
        let zero = S::splat(0.0);
        let mut sums = [[zero; 4]; ROWS];
        let mut k = 0;
        // Unrolled so that loads differ by constant offsets only.
        while k + S::UNROLL * S::N <= tile.len {
            let mut xs = [tile.x; ROWS];
            for r in 0..ROWS {
                xs[r] = tile.x.add(r * tile.x_stride + k);
            }
            let mut ws = [tile.w; COLUMNS];
            for c in 0..COLUMNS {
                ws[c] = tile.w.add(c * tile.w_stride + k);
            }
            if tile.ahead > 0 {
                for c in 0..COLUMNS {
                    for line in 0..(S::UNROLL * S::N * size_of::<E::Bits>()).div_ceil(64) {
                        S::prefetch(ws[c].wrapping_add(tile.ahead).wrapping_byte_add(line * 64));
                    }
                }
            }
            for u in 0..S::UNROLL {
                let mut x = [zero; ROWS];
                for r in 0..ROWS {
                    x[r] = S::load(xs[r].add(u * S::N));
                }
                for c in 0..COLUMNS {
                    let w = E::load::<S>(ws[c].add(u * S::N));
                    for r in 0..ROWS {
                        sums[r][c] = S::fma(x[r], w, sums[r][c]);
                    }
                }
            }
            k += S::UNROLL * S::N;
        }
        while k + S::N <= tile.len {
            let mut x = [zero; ROWS];
            for r in 0..ROWS {
                x[r] = S::load(tile.x.add(r * tile.x_stride + k));
            }
            for c in 0..COLUMNS {
                let w = E::load::<S>(tile.w.add(c * tile.w_stride + k));
                for r in 0..ROWS {
                    sums[r][c] = S::fma(x[r], w, sums[r][c]);
                }
            }
            k += S::N;
        }
        if k < tile.len {
            let rest = tile.len - k;
            let mut x = [zero; ROWS];
            for r in 0..ROWS {
                x[r] = S::load_first(tile.x.add(r * tile.x_stride + k), rest);
            }
            for c in 0..COLUMNS {
                let w = E::load_first::<S>(tile.w.add(c * tile.w_stride + k), rest);
                for r in 0..ROWS {
                    sums[r][c] = S::fma(x[r], w, sums[r][c]);
                }
            }
        }
        for r in 0..ROWS {
            let row = S::sum4(sums[r]);
            let y = tile.y.add(r * tile.y_stride);
            for c in 0..COLUMNS {
                *y.add(c) = if tile.add { *y.add(c) + row[c] } else { row[c] };
            }
        }
    }
}
