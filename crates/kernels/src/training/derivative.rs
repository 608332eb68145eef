//! Activation functions with their derivatives, as torch's backward passes define them.

use crate::activation::Activation;
use crate::math;
use crate::simd::{self, Op, Simd};
use std::marker::PhantomData;

/// Value and slope at a point.
trait Curve {
    fn at<S: Simd>(x: f32) -> (f32, f32);
}

/// What the way back through activation, gate and dropout takes; see [`backward`].
pub(super) struct Back<'a> {
    /// What went into the activation.
    pub x: &'a [f32],
    /// What the activation's result was multiplied by.
    pub gate: Option<&'a [f32]>,
    /// In: the gradient of the product. Out: that of `x`.
    pub dx: &'a mut [f32],
    /// Out: the gradient of the gate; used only where there is one.
    pub dgate: &'a mut [f32],
}

/// `dx ∘= act'(x) ∘ gate`, `dgate = dx ∘ act(x)`, on the calling thread.
pub(super) fn backward(act: Activation, back: Back<'_>) {
    match act {
        Activation::Relu => map::<Relu>(back),
        Activation::Relu2 => map::<Relu2>(back),
        Activation::Relu6 => map::<Relu6>(back),
        Activation::LeakyRelu => map::<LeakyRelu>(back),
        Activation::Gelu => map::<Gelu>(back),
        Activation::GeluTanh => map::<GeluTanh>(back),
        Activation::Gelu10 => map::<Gelu10>(back),
        Activation::QuickGelu => map::<QuickGelu>(back),
        Activation::Silu => map::<Silu>(back),
        Activation::HardSwish => map::<HardSwish>(back),
        Activation::Mish => map::<Mish>(back),
        Activation::Tanh => map::<Tanh>(back),
        Activation::Sigmoid => map::<Sigmoid>(back),
        Activation::Laplace => map::<Laplace>(back),
        Activation::SqrtSoftplus => map::<SqrtSoftplus>(back),
        Activation::Identity => map::<Identity>(back),
    }
}

struct Map<'a, C> {
    back: Back<'a>,
    curve: PhantomData<C>,
}

impl<C: Curve> Op for Map<'_, C> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Back { x, gate, dx, dgate } = self.back;
        match gate {
            None => {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx *= C::at::<S>(x).1;
                }
            }
            Some(gate) => {
                for (((dx, dgate), &x), &gate) in dx.iter_mut().zip(dgate).zip(x).zip(gate) {
                    let (value, slope) = C::at::<S>(x);
                    *dgate = *dx * value;
                    *dx *= slope * gate;
                }
            }
        }
    }
}

fn map<C: Curve>(back: Back<'_>) {
    simd::run(Map::<C> { back, curve: PhantomData });
}

macro_rules! curves {
    ($($name:ident: |$x:ident| $value:expr;)*) => {$(
        struct $name;
        impl Curve for $name {
            #[inline(always)]
            #[allow(clippy::approx_constant)] // Laplace has the reference's own numbers.
            fn at<S: Simd>($x: f32) -> (f32, f32) {
                $value
            }
        }
    )*};
}

curves! {
    Relu: |x| if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) };
    Relu2: |x| if x <= 0.0 { (0.0, 0.0) } else { (x * x, 2.0 * x) };
    Relu6: |x| if x <= 0.0 { (0.0, 0.0) } else if x >= 6.0 { (6.0, 0.0) } else { (x, 1.0) };
    LeakyRelu: |x| if x > 0.0 { (x, 1.0) } else { (0.01 * x, 0.01) };
    Gelu: |x| gelu::<S>(x);
    GeluTanh: |x| {
        let square = x * x;
        let t = math::tanh::<S>(0.797_884_6 * x * (1.0 + 0.044715 * square));
        let inner = 0.797_884_6 * (1.0 + 3.0 * 0.044715 * square);
        (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner)
    };
    Gelu10: |x| {
        let (y, slope) = gelu::<S>(x);
        (y.clamp(-10.0, 10.0), if y > 10.0 { 0.0 } else { slope })
    };
    QuickGelu: |x| {
        let s = math::sigmoid::<S>(1.702 * x);
        (x * s, s * (1.0 + 1.702 * x * (1.0 - s)))
    };
    Silu: |x| {
        let s = math::sigmoid::<S>(x);
        (x * s, s * (1.0 + x * (1.0 - s)))
    };
    HardSwish: |x| {
        if x <= -3.0 { (0.0, 0.0) } else if x >= 3.0 { (x, 1.0) } else { (x * (x + 3.0) / 6.0, x / 3.0 + 0.5) }
    };
    Mish: |x| {
        let t = math::tanh_softplus::<S>(x);
        (x * t, t + x * (1.0 - t * t) * math::sigmoid::<S>(x))
    };
    Tanh: |x| {
        let t = math::tanh::<S>(x);
        (t, 1.0 - t * t)
    };
    Sigmoid: |x| {
        let s = math::sigmoid::<S>(x);
        (s, s * (1.0 - s))
    };
    Laplace: |x| {
        let u = (x - 0.707107) / (0.282095 * std::f32::consts::SQRT_2);
        let density = math::exp::<S>(-u * u) * (std::f32::consts::FRAC_2_SQRT_PI * 0.5 / (0.282095 * std::f32::consts::SQRT_2));
        (0.5 * (1.0 + math::erf::<S>(u)), density)
    };
    SqrtSoftplus: |x| {
        let root = math::softplus(x).sqrt();
        let slope = if x > 20.0 { 1.0 } else { math::sigmoid::<S>(x) };
        (root, 0.5 * slope / root)
    };
    Identity: |x| (x, 1.0);
}

#[inline(always)]
fn gelu<S: Simd>(x: f32) -> (f32, f32) {
    let share = 0.5 * (1.0 + math::erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2));
    let density =
        math::exp::<S>(-0.5 * x * x) * (std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * 0.5);
    (x * share, share + x * density)
}
