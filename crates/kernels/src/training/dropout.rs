//! Dropout whose mask is a function of the seed and of an element's number, so that it needs no memory and is the same on
//! the way back, on every machine and for every number of threads.

use crate::parallel;
use crate::simd::{self, Op, Simd};

/// Inverted dropout: an element becomes 0 with probability `rate`, and is multiplied by `1 / (1 - rate)` otherwise.
///
/// A rate of 0 or less (or NaN) drops nothing, a rate of 1 or more everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    pub rate: f32,
    pub seed: u64,
}

impl Dropout {
    /// Drops nothing.
    pub const NONE: Self = Self { rate: 0.0, seed: 0 };

    /// Whether every element stays as it is.
    pub fn is_none(&self) -> bool {
        self.rate.is_nan() || self.rate <= 0.0
    }

    /// What the element of this number is multiplied by: 0 or `1 / (1 - rate)`.
    pub fn factor(&self, index: u64) -> f32 {
        if self.is_none() {
            return 1.0;
        }
        let keys = Keys::of(self.seed, index >> 32);
        if bits(keys, index as u32) < self.threshold() {
            0.0
        } else {
            self.scale()
        }
    }

    /// Applies the factors of the elements numbered `first`, `first + 1`, … to `values`, on the calling thread.
    pub fn apply(&self, first: u64, values: &mut [f32]) {
        if !self.is_none() {
            simd::run(Apply { dropout: *self, first, values });
        }
    }

    /// [`Self::apply`] inside of a kernel.
    #[inline(always)]
    pub(crate) fn apply_inline(&self, mut first: u64, mut values: &mut [f32]) {
        if self.is_none() {
            return;
        }
        let (threshold, scale) = (self.threshold(), self.scale());
        while !values.is_empty() {
            // Up to where the upper half of the number changes.
            let left = (1u64 << 32) - (first & 0xffff_ffff);
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(values.len());
            let (now, later) = values.split_at_mut(count);
            let (keys, start) = (Keys::of(self.seed, first >> 32), first as u32);
            for (i, value) in now.iter_mut().enumerate() {
                *value *= if bits(keys, start.wrapping_add(i as u32)) < threshold { 0.0 } else { scale };
            }
            first = first.wrapping_add(count as u64);
            values = later;
        }
    }

    /// What the kernels on a GPU need: seed, [`Self::threshold`] and [`Self::scale`].
    #[cfg(feature = "cuda")]
    pub(crate) fn parts(&self) -> (u64, u32, f32) {
        match self.is_none() {
            true => (0, 0, 1.0),
            false => (self.seed, self.threshold(), self.scale()),
        }
    }

    /// Of the 2³² values that an element's bits may have, those below this are dropped.
    #[inline(always)]
    fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0).min(4_294_967_295.0) as u32
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        if self.rate < 1.0 {
            1.0 / (1.0 - self.rate)
        } else {
            0.0
        }
    }
}

/// What the seed and the upper half of the number come to.
#[derive(Clone, Copy)]
struct Keys(u32, u32);

impl Keys {
    #[inline(always)]
    fn of(seed: u64, upper: u64) -> Self {
        // splitmix64's mix.
        let mut z = (seed ^ upper.wrapping_mul(0xd1b5_4a32_d192_ed03)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Self(z as u32, (z >> 32) as u32)
    }
}

/// 32 bits that look random: a mix of 32-bit steps, which vectors have everywhere, once with each key.
#[inline(always)]
fn bits(keys: Keys, index: u32) -> u32 {
    mix(mix(index ^ keys.0).wrapping_add(keys.1))
}

/// A bijection; the multipliers are those of Wellons' hash prospector (public domain).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x21f0_aaad);
    x ^= x >> 15;
    x = x.wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

struct Apply<'a> {
    dropout: Dropout,
    first: u64,
    values: &'a mut [f32],
}

impl Op for Apply<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.dropout.apply_inline(self.first, self.values);
    }
}

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// `y[i] = x[i] · d.factor(i)`; with the gradient in the place of `x` it is its own way back. Elements past the end of the
/// shorter slice stay untouched.
pub fn dropout(d: &Dropout, x: &[f32], y: &mut [f32]) {
    parallel::for_each_row_chunk(y, 1, GRAIN, |first, y| {
        let x = x.get(first..).unwrap_or(&[]);
        let count = x.len().min(y.len());
        y[..count].copy_from_slice(&x[..count]);
        d.apply(first as u64, &mut y[..count]);
    });
}
