//! The way back through T5's layer norm.

use crate::error::{expect_len, product, KernelError};
use crate::math;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{self, Op, Simd};

/// Partial sums per row; their number is part of the numerical definition.
const LANES: usize = 16;

/// Parts that rows are cut in at most, each with its own sum of the weight's gradient, and rows per part at least.
const MAX_PARTS: usize = 16;
const MIN_ROWS: usize = 32;

/// The way back through [`crate::rms_norm`] over rows of `width`: `dx` is overwritten, `dweight` is added to.
///
/// With `r = rsqrt(mean(x²) + eps)`: `dx = r · w ∘ dy - x · r³ · mean(x ∘ w ∘ dy)`, `dweight += Σ dy ∘ x · r`.
pub fn rms_norm_backward(
    x: &[f32],
    width: usize,
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    let what = "rms_norm input elements, in rows of width";
    if width == 0 {
        return Err(KernelError::Dimension { what, expected: "1 or more", found: 0 });
    }
    if !x.len().is_multiple_of(width) {
        return Err(KernelError::Shape { what, expected: x.len() / width * width, found: x.len() });
    }
    expect_len("rms_norm weight elements", weight.len(), width)?;
    expect_len("rms_norm output gradient elements", dy.len(), x.len())?;
    expect_len("rms_norm input gradient elements", dx.len(), x.len())?;
    if let Some(dweight) = &dweight {
        expect_len("rms_norm weight gradient elements", dweight.len(), width)?;
    }
    let rows = x.len() / width;
    let size = rows.div_ceil(MAX_PARTS).max(MIN_ROWS);
    let parts = rows.div_ceil(size);
    let sums = if dweight.is_some() { product("sums of the weight's gradient", parts, width)? } else { 0 };
    let mut sums = scratch::take("sums of the weight's gradient", sums)?;
    sums.fill(0.0);
    let (shared_sums, shared_dx) = (Disjoint::new(&mut sums), Disjoint::new(dx));
    let has_sums = shared_sums.len() > 0;
    parallel::for_each_task(parts, |part| {
        let range = part * size * width..((part + 1) * size).min(rows) * width;
        // SAFETY: parts do not overlap.
        let (dx, sums) = unsafe {
            (
                shared_dx.slice(range.clone()),
                shared_sums.slice(if has_sums { part * width..(part + 1) * width } else { 0..0 }),
            )
        };
        simd::run(Backward { x: &x[range.clone()], weight, eps, dy: &dy[range], dx, sums });
    });
    if let Some(dweight) = dweight {
        for sums in sums.chunks_exact(width) {
            for (to, sum) in dweight.iter_mut().zip(sums) {
                *to += sum;
            }
        }
    }
    Ok(())
}

struct Backward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// Empty when the weight's gradient is not wanted.
    sums: &'a mut [f32],
}

impl Op for Backward<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)).zip(self.dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            let (mut squares, mut dots) = ([0f32; LANES], [0f32; LANES]);
            let mut start = 0;
            while start < width {
                let end = (start + LANES).min(width);
                let (x, dy, weight) = (&x[start..end], &dy[start..end], &self.weight[start..end]);
                if x.len() == LANES {
                    for i in 0..LANES {
                        squares[i] = math::fma::<S>(x[i], x[i], squares[i]);
                        dots[i] = math::fma::<S>(x[i], weight[i] * dy[i], dots[i]);
                    }
                } else {
                    for i in 0..x.len() {
                        squares[i] = math::fma::<S>(x[i], x[i], squares[i]);
                        dots[i] = math::fma::<S>(x[i], weight[i] * dy[i], dots[i]);
                    }
                }
                start = end;
            }
            let mean = sum(squares) / width as f32;
            let r = 1.0 / (mean + self.eps).sqrt();
            let back = sum(dots) / width as f32 * r * r * r;
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(self.weight) {
                *dx = weight * dy * r - x * back;
            }
            for ((sum, x), dy) in self.sums.iter_mut().zip(x).zip(dy) {
                *sum = math::fma::<S>(*dy, x * r, *sum);
            }
        }
    }
}

#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
