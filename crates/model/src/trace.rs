//! What a forward pass records on its way, where asked: the reference's `output_*` options.

use candle_core::{Device, Tensor};
use switch_kernels::Routes;

use crate::error::Result;
use crate::rows::Rows;

/// One stack's records, in order of layers.
#[derive(Default)]
pub struct Trace {
    pub want_hidden_states: bool,
    pub want_attentions: bool,
    pub want_cross_attentions: bool,
    pub want_router_logits: bool,
    pub want_routes: bool,
    /// The input of every block, then the stack's output: `[tokens, d_model]` each.
    pub hidden_states: Vec<Tensor>,
    /// Per layer and row, `[heads, q_len, kv_len]`.
    pub attentions: Vec<Vec<Tensor>>,
    pub cross_attentions: Vec<Vec<Tensor>>,
    /// Per sparse layer, `[tokens, num_experts]`.
    pub router_logits: Vec<Tensor>,
    pub routes: Vec<Routes>,
}

impl Trace {
    /// Whether router losses or records of them are wanted.
    pub fn wants_router(&self) -> bool {
        self.want_router_logits || self.want_routes
    }

    pub fn hidden_state(&mut self, x: &Tensor) {
        if self.want_hidden_states {
            self.hidden_states.push(on_host(x));
        }
    }

    pub fn router(&mut self, logits: &Tensor, routes: &Routes) {
        if self.want_router_logits {
            self.router_logits.push(on_host(logits));
        }
        if self.want_routes {
            self.routes.push(routes.clone());
        }
    }
}

/// Records are kept in host memory, wherever the pass runs, but for those that gradients go back from. A copy that fails is
/// found when the record is read.
fn on_host(x: &Tensor) -> Tensor {
    if x.device().is_cpu() || crate::ops::tracked(x) {
        return x.clone();
    }
    x.to_device(&Device::Cpu).unwrap_or_else(|_| x.clone())
}

/// `[tokens, …]` as `[rows, length, …]`, where all rows have one length.
pub fn batched(x: &Tensor, rows: &Rows) -> Result<Tensor> {
    let len = rows.common_len().unwrap_or(0);
    let mut dims = vec![rows.count(), len];
    dims.extend(x.dims().iter().skip(1));
    Ok(x.reshape(dims)?)
}
