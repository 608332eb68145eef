//! Activation functions of the feed-forward layers, by the names that `transformers` gives them.

use crate::math;
use crate::parallel;
use crate::simd::{self, Op, Simd};
use std::marker::PhantomData;

/// A pointwise function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu,
    /// `relu(x)²`
    Relu2,
    Relu6,
    LeakyRelu,
    /// `x · Φ(x)`, with the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// GELU clipped to -10 ..= 10.
    Gelu10,
    /// `x · sigmoid(1.702 x)`
    QuickGelu,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    HardSwish,
    Mish,
    Tanh,
    Sigmoid,
    /// MEGA's `(1 + erf((x - 0.707107) / (0.282095 √2))) / 2`
    Laplace,
    /// `√softplus(x)`
    SqrtSoftplus,
    Identity,
}

impl Activation {
    /// The function that `transformers`' `ACT2FN` knows by `name`; `None` for unknown names and for `prelu` and `xielu`,
    /// which carry parameters.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => Self::GeluTanh,
            "gelu_10" => Self::Gelu10,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "hardswish" => Self::HardSwish,
            "mish" => Self::Mish,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "laplace" => Self::Laplace,
            "sqrtsoftplus" => Self::SqrtSoftplus,
            "linear" => Self::Identity,
            _ => return None,
        })
    }
}

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// Applies `act` to each element of `x`.
pub fn activate(act: Activation, x: &mut [f32]) {
    if act != Activation::Identity {
        parallel::for_each_row_chunk(x, 1, GRAIN, |_, chunk| activate_serial(act, chunk));
    }
}

/// As [`activate`], on the calling thread.
pub(crate) fn activate_serial(act: Activation, x: &mut [f32]) {
    match act {
        Activation::Relu => map::<Relu>(x),
        Activation::Relu2 => map::<Relu2>(x),
        Activation::Relu6 => map::<Relu6>(x),
        Activation::LeakyRelu => map::<LeakyRelu>(x),
        Activation::Gelu => map::<Gelu>(x),
        Activation::GeluTanh => map::<GeluTanh>(x),
        Activation::Gelu10 => map::<Gelu10>(x),
        Activation::QuickGelu => map::<QuickGelu>(x),
        Activation::Silu => map::<Silu>(x),
        Activation::HardSwish => map::<HardSwish>(x),
        Activation::Mish => map::<Mish>(x),
        Activation::Tanh => map::<Tanh>(x),
        Activation::Sigmoid => map::<Sigmoid>(x),
        Activation::Laplace => map::<Laplace>(x),
        Activation::SqrtSoftplus => map::<SqrtSoftplus>(x),
        Activation::Identity => {}
    }
}

/// A function of one number.
trait Pointwise {
    fn of<S: Simd>(x: f32) -> f32;
}

struct Map<'a, P> {
    x: &'a mut [f32],
    function: PhantomData<P>,
}

impl<P: Pointwise> Op for Map<'_, P> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for x in self.x {
            *x = P::of::<S>(*x);
        }
    }
}

fn map<P: Pointwise>(x: &mut [f32]) {
    simd::run(Map::<P> { x, function: PhantomData });
}

macro_rules! pointwise {
    ($($name:ident: |$x:ident| $value:expr;)*) => {$(
        struct $name;
        impl Pointwise for $name {
            #[inline(always)]
            #[allow(clippy::approx_constant)] // Laplace has the reference's own numbers.
            fn of<S: Simd>($x: f32) -> f32 {
                $value
            }
        }
    )*};
}

pointwise! {
    Relu: |x| relu(x);
    Relu2: |x| relu(x) * relu(x);
    Relu6: |x| if x > 6.0 { 6.0 } else { relu(x) };
    LeakyRelu: |x| if x < 0.0 { 0.01 * x } else { x };
    Gelu: |x| gelu::<S>(x);
    GeluTanh: |x| 0.5 * x * (1.0 + math::tanh::<S>(0.797_884_6 * (x + 0.044715 * x * x * x)));
    Gelu10: |x| gelu::<S>(x).clamp(-10.0, 10.0);
    QuickGelu: |x| x * math::sigmoid::<S>(1.702 * x);
    Silu: |x| x * math::sigmoid::<S>(x);
    HardSwish: |x| if x <= -3.0 { 0.0 } else if x >= 3.0 { x } else { x * (x + 3.0) / 6.0 };
    Mish: |x| x * math::tanh_softplus::<S>(x);
    Tanh: |x| math::tanh::<S>(x);
    Sigmoid: |x| math::sigmoid::<S>(x);
    Laplace: |x| 0.5 * (1.0 + math::erf::<S>((x - 0.707107) / (0.282095 * std::f32::consts::SQRT_2)));
    SqrtSoftplus: |x| math::softplus(x).sqrt();
}

/// A comparison rather than `max`: a NaN passes through, as in the reference.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 {
        0.0
    } else {
        x
    }
}

#[inline(always)]
fn gelu<S: Simd>(x: f32) -> f32 {
    0.5 * x * (1.0 + math::erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2))
}
