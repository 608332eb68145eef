//! `dense_act_fn`: an activation by its name in transformers, gated or not.

use switch_kernels::Activation;

/// The feed-forward layer's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedForwardActivation {
    pub activation: Activation,
    /// `wi_0`, `wi_1`, `wo` as in T5 v1.1, instead of `wi`, `wo`.
    pub gated: bool,
}

impl FeedForwardActivation {
    /// `relu`, `gelu`, `silu`, … as in transformers' `ACT2FN`; `gated-X` for the gated form. `gated-gelu` uses the tanh
    /// approximation (`gelu_new`), as T5Config does.
    pub fn parse(name: &str) -> Option<Self> {
        let (gated, plain) = match name.strip_prefix("gated-") {
            Some("gelu") => (true, "gelu_new"),
            Some(rest) => (true, rest),
            None => (false, name),
        };
        Some(Self { activation: Activation::parse(plain)?, gated })
    }
}
