//! What a generation records beside its tokens: the encoder's outputs and where tokens went.

use switch_generation::GenerationResult;
use switch_model::{batched, Rows, Trace};

use crate::failure::Failure;
use crate::wire::Tensor;

/// What `outputs` of `generation_start` may name.
pub const OUTPUTS: &[&str] = &[
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "encoder_attentions",
    "encoder_router_logits",
    "encoder_routes",
    "decoder_routes",
];

pub struct Records {
    wanted: Vec<String>,
    encoder: Vec<Tensor>,
    /// `[slot][layer][token]`: the expert that took each token fed to a slot, -1 for dropped ones.
    routes: Vec<Vec<Vec<i32>>>,
}

impl Records {
    pub fn new(wanted: Vec<String>) -> Self {
        Self { wanted, encoder: Vec::new(), routes: Vec::new() }
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|w| w == name)
    }

    pub fn wants_encoder(&self) -> bool {
        self.wanted.iter().any(|w| w.starts_with("encoder_"))
    }

    /// Whether a slot's history has to be one output row's.
    pub fn needs_single_rows(&self) -> bool {
        self.wants("decoder_routes")
    }

    pub fn encoder_trace(&self) -> Trace {
        Trace {
            want_hidden_states: self.wants("encoder_hidden_states"),
            want_attentions: self.wants("encoder_attentions"),
            want_router_logits: self.wants("encoder_router_logits"),
            want_routes: self.wants("encoder_routes"),
            ..Trace::default()
        }
    }

    pub fn decoder_trace(&self) -> Trace {
        Trace { want_routes: self.wants("decoder_routes"), ..Trace::default() }
    }

    pub fn encoded(&mut self, states: &candle_core::Tensor, trace: &Trace, rows: &Rows) -> Result<(), Failure> {
        if self.wants("encoder_last_hidden_state") {
            self.encoder.push(Tensor::from_candle("encoder_last_hidden_state", &batched(states, rows)?)?);
        }
        for (i, x) in trace.hidden_states.iter().enumerate() {
            self.encoder.push(Tensor::from_candle(format!("encoder_hidden_states.{i}"), &batched(x, rows)?)?);
        }
        for (i, layer) in trace.attentions.iter().enumerate() {
            let stacked = candle_core::Tensor::stack(layer, 0)?;
            self.encoder.push(Tensor::from_candle(format!("encoder_attentions.{i}"), &stacked)?);
        }
        for (i, x) in trace.router_logits.iter().enumerate() {
            self.encoder.push(Tensor::from_candle(format!("encoder_router_logits.{i}"), &batched(x, rows)?)?);
        }
        for (i, routes) in trace.routes.iter().enumerate() {
            let dims = [rows.count(), rows.common_len().unwrap_or(0)];
            self.encoder.push(Tensor::from_i32(format!("encoder_routes.{i}"), &dims, &routes.expert));
        }
        Ok(())
    }

    /// Notes where the tokens of one step went; `segments` are `(slot, tokens)` in order.
    pub fn decoded(&mut self, segments: &[(usize, usize)], trace: &Trace) {
        if trace.routes.is_empty() {
            return;
        }
        let mut at = 0;
        for (slot, len) in segments {
            if self.routes.len() <= *slot {
                self.routes.resize_with(slot + 1, Vec::new);
            }
            let layers = &mut self.routes[*slot];
            layers.resize_with(trace.routes.len(), Vec::new);
            for (layer, routes) in layers.iter_mut().zip(&trace.routes) {
                layer.extend(routes.expert.get(at..at + len).unwrap_or_default());
            }
            at += len;
        }
    }

    pub fn reorder(&mut self, moves: &[(usize, usize)]) {
        if self.routes.is_empty() {
            return;
        }
        let before = self.routes.clone();
        for (to, from) in moves {
            if let (Some(target), Some(source)) = (self.routes.get_mut(*to), before.get(*from)) {
                target.clone_from(source);
            }
        }
    }

    /// `decoder_routes.N` is `[rows, tokens fed]`, -2 past a row's last token.
    pub fn into_tensors(self, result: &GenerationResult) -> Result<Vec<Tensor>, Failure> {
        let mut tensors = self.encoder;
        let rows = result.sequences.len();
        let layers = self.routes.iter().map(Vec::len).max().unwrap_or(0);
        for layer in 0..layers {
            let row =
                |row: usize| self.routes.get(row).and_then(|layers| layers.get(layer)).map_or(&[][..], Vec::as_slice);
            let width = (0..rows).map(|r| row(r).len()).max().unwrap_or(0);
            let mut values = Vec::with_capacity(rows * width);
            for r in 0..rows {
                values.extend_from_slice(row(r));
                values.resize((r + 1) * width, -2);
            }
            tensors.push(Tensor::from_i32(format!("decoder_routes.{layer}"), &[rows, width], &values));
        }
        Ok(tensors)
    }
}
