//! Rows of inputs, each quantised by its own largest magnitude and laid out as the active unit reads them.

use super::formats::BLOCK;
use super::unit::{self, round, Unit};
use crate::error::{product, KernelError};
use crate::gemm::Block;
use crate::matrix::{Matrix, Values};
use crate::parallel::{self, Disjoint};
use crate::scratch::{self, Scratch};
use std::ops::Range;

/// Bytes to which the parts of a row are padded: whole steps of every unit.
const LINE: usize = 128;

/// Which weights inputs are laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Int8,
    Int4,
}

impl Format {
    pub fn of(values: Values<'_>) -> Option<Self> {
        match values {
            Values::I8 { .. } => Some(Self::Int8),
            Values::I4 { .. } => Some(Self::Int4),
            _ => None,
        }
    }
}

/// Where the parts of a row are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Layout {
    /// What nibbles of 8 sum to, negated, in the lanes of each step: int4 only.
    corrections: usize,
    /// All of it.
    stride: usize,
}

/// A row's own numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Meta {
    /// Inputs are this times their integers.
    pub scale: f32,
    /// Sum of the integers.
    pub sum: i32,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    format: Format,
    /// Rows in the inputs that it was made from.
    first: usize,
    rows: usize,
    cols: usize,
    layout: Layout,
    /// First byte of its rows, of their numbers, and of their tiles.
    start: usize,
    meta: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    tiles: Option<usize>,
}

/// Quantised segments of the rows of an input.
pub(crate) struct Inputs {
    data: Scratch,
    segments: Vec<Option<Segment>>,
}

/// A segment, as products read it.
pub(super) struct Rows {
    data: *const u8,
    meta: *const Meta,
    layout: Layout,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<*const u8>,
}

impl Rows {
    /// The integers of a row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> *const u8 {
        self.data.wrapping_add(row * self.layout.stride)
    }

    /// The int4 corrections of a row.
    #[inline(always)]
    pub fn corrections(&self, row: usize) -> *const i32 {
        self.row(row).wrapping_add(self.layout.corrections).cast()
    }

    /// # Safety
    /// `row` is one of the segment's.
    #[inline(always)]
    pub unsafe fn meta(&self, row: usize) -> Meta {
        // SAFETY: as the caller promises.
        unsafe { self.meta.add(row).read() }
    }

    /// The rows packed in tiles, if they are.
    #[cfg(target_arch = "x86_64")]
    pub fn tiles(&self) -> Option<*const u8> {
        self.tiles
    }
}

impl Inputs {
    /// Quantises the segments that are multiplied by quantised weights; `None` where there are none.
    pub fn prepare<'a>(
        x: &[f32],
        cols: usize,
        segments: impl Iterator<Item = (Range<usize>, Matrix<'a>)>,
    ) -> Result<Option<Self>, KernelError> {
        let what = "quantised inputs";
        let mut list = Vec::new();
        let mut size = 0usize;
        let mut rows = 0;
        for (range, w) in segments {
            let Some(format) = Format::of(w.values) else {
                if !list.is_empty() {
                    list.push(None);
                }
                rows += 1;
                continue;
            };
            if list.is_empty() {
                list.resize(rows, None);
            }
            let layout = layout(format, cols);
            let mut take = |bytes: usize| {
                let start = size;
                size = size.checked_add(bytes).and_then(|size| size.checked_next_multiple_of(LINE))?;
                Some(start)
            };
            let parts = || {
                let start = take(range.len().checked_mul(layout.stride)?)?;
                let meta = take(range.len().checked_mul(size_of::<Meta>())?)?;
                let tiles = match tile_bytes(format, range.len(), &w) {
                    0 => None,
                    bytes => Some(take(bytes)?),
                };
                Some((start, meta, tiles))
            };
            let mut parts = parts;
            let (start, meta, tiles) = parts().ok_or(KernelError::TooLarge { what })?;
            let first = range.start;
            list.push(Some(Segment { format, first, rows: range.len(), cols, layout, start, meta, tiles }));
        }
        if list.is_empty() {
            return Ok(None);
        }
        let mut data = scratch::take(what, size.div_ceil(4))?;
        let to = Disjoint::new(&mut data);
        for segment in list.iter().flatten() {
            let Segment { first, rows, cols, .. } = *segment;
            let x = &x[first * cols..(first + rows) * cols];
            let grain = (32 * 1024 / cols.max(1)).max(1).next_multiple_of(32);
            parallel::for_each_range(rows, grain, |rows| {
                // SAFETY: the segment's parts lie in `data`; ranges of rows have none in common.
                unsafe { quantise(segment, x, rows, to.as_ptr().cast()) };
            });
        }
        Ok(Some(Self { data, segments: list }))
    }

    /// The rows of one block, on this thread.
    pub(super) fn of_block(block: &Block<'_>) -> Result<Self, KernelError> {
        let what = "quantised inputs";
        let (n, cols) = (block.n, block.w.cols);
        let format = Format::of(block.w.values).unwrap_or(Format::Int8);
        let layout = layout(format, cols);
        let meta = product(what, n, layout.stride)?;
        let size = n.checked_mul(size_of::<Meta>()).and_then(|size| size.checked_add(meta));
        let mut data = scratch::take(what, size.ok_or(KernelError::TooLarge { what })?.div_ceil(4))?;
        let segment = Segment { format, first: 0, rows: n, cols, layout, start: 0, meta, tiles: None };
        for row in 0..n {
            let x = &block.x[row * block.x_stride..row * block.x_stride + cols];
            let at = Segment { start: row * layout.stride, meta: meta + row * size_of::<Meta>(), ..segment };
            // SAFETY: the row's parts lie in `data`.
            unsafe { quantise(&at, x, 0..1, data.as_mut_ptr().cast()) };
        }
        Ok(Self { data, segments: vec![Some(segment)] })
    }

    /// A segment's rows, if they were laid out for weights as those of `block`.
    pub(super) fn segment(&self, segment: usize, block: &Block<'_>) -> Option<Rows> {
        let segment = self.segments.get(segment).copied().flatten()?;
        let fits = Format::of(block.w.values) == Some(segment.format)
            && segment.rows == block.n
            && segment.cols == block.w.cols;
        let data = self.data.as_ptr().cast::<u8>();
        fits.then(|| Rows {
            data: data.wrapping_add(segment.start),
            meta: data.wrapping_add(segment.meta).cast(),
            layout: segment.layout,
            #[cfg(target_arch = "x86_64")]
            tiles: segment.tiles.map(|tiles| data.wrapping_add(tiles)),
        })
    }
}

fn tile_bytes(format: Format, n: usize, w: &Matrix<'_>) -> usize {
    #[cfg(target_arch = "x86_64")]
    if format == Format::Int8 && super::amx::suits(n, w) {
        return super::amx::packed_bytes(n, w.cols);
    }
    let _ = (format, n, w);
    0
}

struct LayoutOf(Format, usize);

impl unit::Op for LayoutOf {
    type Out = Layout;
    #[inline(always)]
    unsafe fn run<U: Unit>(self) -> Layout {
        let Self(format, cols) = self;
        let wide = match format {
            Format::Int8 => U::WIDE,
            Format::Int4 => U::WIDE_BLOCKS,
        };
        // The corrections come after the integers.
        let corrections = cols.next_multiple_of(LINE) * if wide { 2 } else { 1 };
        let steps = match format {
            Format::Int8 => 0,
            Format::Int4 => cols.div_ceil(U::BLOCKS * BLOCK),
        };
        Layout { corrections, stride: (corrections + steps * U::LANES * 4).next_multiple_of(64) }
    }
}

fn layout(format: Format, cols: usize) -> Layout {
    unit::run(LayoutOf(format, cols))
}

/// Quantises `rows` of a segment, whose rows `x` holds, into `to`.
///
/// # Safety
/// `to` holds the segment, and nothing else touches these rows meanwhile.
unsafe fn quantise(segment: &Segment, x: &[f32], rows: Range<usize>, to: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    let range = rows.clone();
    unit::run(Quantise { segment, x, rows, to });
    #[cfg(target_arch = "x86_64")]
    if let Some(tiles) = segment.tiles {
        // SAFETY: the caller's promise; ranges start at whole tiles. Tiles are asked for only with AMX.
        unsafe {
            let from = to.add(segment.start);
            super::amx::pack(from, segment.layout.stride, segment.rows, segment.cols, range, to.add(tiles));
        }
    }
}

struct Quantise<'a> {
    segment: &'a Segment,
    x: &'a [f32],
    rows: Range<usize>,
    to: *mut u8,
}

/// Columns that are quantised together.
const PIECE: usize = 16;

impl unit::Op for Quantise<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<U: Unit>(self) {
        let Self { segment, x, rows, to } = self;
        let Segment { format, cols, layout, .. } = *segment;
        let wide = match format {
            Format::Int8 => U::WIDE,
            Format::Int4 => U::WIDE_BLOCKS,
        };
        for row in rows {
            // SAFETY: the parts of this row lie in `to`, as the caller promises.
            unsafe {
                let x = &x[row * cols..(row + 1) * cols];
                let values = to.add(segment.start + row * layout.stride);
                let (scale, inverse) = scale_of(x);
                if format == Format::Int8 && !wide {
                    let sum = U::quantise(x.as_ptr(), cols, inverse, values.cast());
                    std::ptr::write_bytes(values.add(cols), 0, cols.next_multiple_of(LINE) - cols);
                    to.add(segment.meta).cast::<Meta>().add(row).write(Meta { scale, sum });
                    continue;
                }
                let mut sum = 0i32;
                let pieces = cols.next_multiple_of(LINE) / PIECE;
                for piece in 0..pieces {
                    let mut integers = [0i8; PIECE];
                    let from = (piece * PIECE).min(cols);
                    let some = &x[from..(from + PIECE).min(cols)];
                    if let Ok(all) = <&[f32; PIECE]>::try_from(some) {
                        for i in 0..PIECE {
                            integers[i] = round(all[i] * inverse);
                        }
                    } else {
                        for (q, &x) in integers.iter_mut().zip(some) {
                            *q = round(x * inverse);
                        }
                    }
                    for q in integers {
                        sum += i32::from(q);
                    }
                    let place = match format {
                        Format::Int8 => piece,
                        Format::Int4 => place_of::<U>(piece),
                    };
                    if wide {
                        values.cast::<[i16; PIECE]>().add(place).write_unaligned(integers.map(i16::from));
                    } else {
                        values.cast::<[i8; PIECE]>().add(place).write(integers);
                    }
                }
                if format == Format::Int4 {
                    let half = U::BLOCKS * (BLOCK / 2) * if wide { 2 } else { 1 };
                    for step in 0..cols.div_ceil(U::BLOCKS * BLOCK) {
                        let low = values.add(step * half * 2);
                        let eights = U::dot_nibbles(U::zero(), U::middle(), low);
                        let eights = U::dot_nibbles(eights, U::middle(), low.add(half));
                        let at = values.add(layout.corrections).cast::<i32>().add(step * U::LANES);
                        U::store(at, eights);
                        for lane in 0..U::LANES {
                            *at.add(lane) = -*at.add(lane);
                        }
                    }
                }
                to.add(segment.meta).cast::<Meta>().add(row).write(Meta { scale, sum });
            }
        }
    }
}

/// Where a piece of int4's inputs goes: after the other low halves of its step, or the other high ones.
#[inline(always)]
fn place_of<U: Unit>(piece: usize) -> usize {
    let (step, within) = (piece / (2 * U::BLOCKS), piece % (2 * U::BLOCKS));
    step * 2 * U::BLOCKS + (within % 2) * U::BLOCKS + within / 2
}

/// A row's scale and its inverse. Rows of which nothing is left at float32's precision get 0, rows with an infinity or
/// NaN get NaN.
#[inline(always)]
fn scale_of(x: &[f32]) -> (f32, f32) {
    // The order of magnitudes is that of their bits, with NaN above infinity.
    let mut lanes = [0i32; 16];
    let mut pieces = x.chunks_exact(16);
    for piece in &mut pieces {
        for i in 0..16 {
            lanes[i] = lanes[i].max((piece[i].to_bits() & 0x7fff_ffff) as i32);
        }
    }
    let rest = pieces.remainder().iter().map(|x| (x.to_bits() & 0x7fff_ffff) as i32);
    let max = f32::from_bits(lanes.into_iter().chain(rest).fold(0, i32::max) as u32);
    if !max.is_finite() {
        (f32::NAN, 0.0)
    } else if max < 1e-35 {
        (0.0, 0.0)
    } else {
        (max / 127.0, 127.0 / max)
    }
}
