//! Activation functions of the feed-forward layers, by the names that `transformers` gives them.

use crate::parallel;

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
        Activation::Relu => map(x, relu),
        Activation::Relu2 => map(x, |x| relu(x) * relu(x)),
        Activation::Relu6 => map(x, |x| if x > 6.0 { 6.0 } else { relu(x) }),
        Activation::LeakyRelu => map(x, |x| if x < 0.0 { 0.01 * x } else { x }),
        Activation::Gelu => map(x, gelu),
        Activation::GeluTanh => map(x, gelu_tanh),
        Activation::Gelu10 => map(x, |x| gelu(x).clamp(-10.0, 10.0)),
        Activation::QuickGelu => map(x, |x| x * sigmoid(1.702 * x)),
        Activation::Silu => map(x, |x| x * sigmoid(x)),
        Activation::HardSwish => map(x, hard_swish),
        Activation::Mish => map(x, |x| x * softplus(x).tanh()),
        Activation::Tanh => map(x, f32::tanh),
        Activation::Sigmoid => map(x, sigmoid),
        Activation::Laplace => map(x, laplace),
        Activation::SqrtSoftplus => map(x, |x| softplus(x).sqrt()),
        Activation::Identity => {}
    }
}

fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for x in x {
        *x = f(*x);
    }
}

// Comparisons rather than `max`: a NaN passes through, as in the reference.
fn relu(x: f32) -> f32 {
    if x < 0.0 {
        0.0
    } else {
        x
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Linear past 20, as torch's default threshold has it.
fn softplus(x: f32) -> f32 {
    if x > 20.0 {
        x
    } else {
        x.exp().ln_1p()
    }
}

fn hard_swish(x: f32) -> f32 {
    if x <= -3.0 {
        0.0
    } else if x >= 3.0 {
        x
    } else {
        x * (x + 3.0) / 6.0
    }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh())
}

#[allow(clippy::approx_constant)] // The reference's own numbers.
fn laplace(x: f32) -> f32 {
    let scaled = (x - 0.707107) / (0.282095 * std::f32::consts::SQRT_2);
    0.5 * (1.0 + erf(scaled))
}

fn erf(x: f32) -> f32 {
    crate::reference::erf(f64::from(x)) as f32
}
