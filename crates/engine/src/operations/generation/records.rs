//! What a generation records beside its tokens: the encoder's outputs, what each step computed, where tokens went.

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
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
    "decoder_router_logits",
];

pub struct Records {
    wanted: Vec<String>,
    encoder: Vec<Tensor>,
    /// `[slot][layer][token]`: the expert that took each token fed to a slot, -1 for dropped ones.
    routes: Vec<Vec<Vec<i32>>>,
    /// Tensors of steps so far, named `output.step.layer`.
    steps: Vec<Tensor>,
    steps_taken: usize,
    slots: usize,
}

impl Records {
    pub fn new(wanted: Vec<String>) -> Self {
        Self { wanted, encoder: Vec::new(), routes: Vec::new(), steps: Vec::new(), steps_taken: 0, slots: 0 }
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|w| w == name)
    }

    /// Whether the encoder's rows have to keep their padding.
    pub fn wants_encoder(&self) -> bool {
        self.wanted.iter().any(|w| w.starts_with("encoder_") || w == "cross_attentions")
    }

    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
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
        Trace {
            want_routes: self.wants("decoder_routes"),
            want_hidden_states: self.wants("decoder_hidden_states"),
            want_attentions: self.wants("decoder_attentions"),
            want_cross_attentions: self.wants("cross_attentions"),
            want_router_logits: self.wants("decoder_router_logits"),
            ..Trace::default()
        }
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

    /// Notes what one step computed; `segments` are `(slot, tokens)` in order.
    pub fn decoded(&mut self, segments: &[(usize, usize)], trace: &Trace) -> candle_core::Result<()> {
        let step = self.steps_taken;
        self.steps_taken += 1;
        for (name, layers) in
            [("decoder_hidden_states", &trace.hidden_states), ("decoder_router_logits", &trace.router_logits)]
        {
            for (layer, values) in layers.iter().enumerate() {
                self.steps.push(by_slot(format!("{name}.{step}.{layer}"), values, segments, self.slots)?);
            }
        }
        for (name, layers) in [("decoder_attentions", &trace.attentions), ("cross_attentions", &trace.cross_attentions)]
        {
            for (layer, rows) in layers.iter().enumerate() {
                self.steps.push(attentions_by_slot(format!("{name}.{step}.{layer}"), rows, segments, self.slots)?);
            }
        }
        self.note_routes(segments, trace);
        Ok(())
    }

    fn note_routes(&mut self, segments: &[(usize, usize)], trace: &Trace) {
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

    /// The expert of each sparse layer that took the last token fed to a slot.
    pub fn last_routes(&self, slot: usize) -> Vec<i32> {
        self.routes.get(slot).into_iter().flatten().filter_map(|layer| layer.last().copied()).collect()
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
        tensors.extend(self.steps);
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

/// `[tokens, width]` of the fed slots as `[slots, tokens, width]`, zero where a slot was not fed.
fn by_slot(
    name: String,
    values: &candle_core::Tensor,
    segments: &[(usize, usize)],
    slots: usize,
) -> candle_core::Result<Tensor> {
    let width = values.dims2()?.1;
    let values = values.flatten_all()?.to_vec1::<f32>()?;
    let longest = segments.iter().map(|(_, len)| *len).max().unwrap_or(0);
    let mut out = vec![0f32; slots * longest * width];
    let mut at = 0;
    for (slot, len) in segments {
        let target = slot * longest * width;
        out[target..target + len * width].copy_from_slice(&values[at..at + len * width]);
        at += len * width;
    }
    Ok(Tensor::from_f32(name, &[slots, longest, width], &out))
}

/// `[heads, queries, keys]` of each fed slot as `[slots, heads, queries, keys]`, zero elsewhere.
fn attentions_by_slot(
    name: String,
    rows: &[candle_core::Tensor],
    segments: &[(usize, usize)],
    slots: usize,
) -> candle_core::Result<Tensor> {
    let mut dims = (0, 0, 0);
    for row in rows {
        let (h, q, k) = row.dims3()?;
        dims = (h, dims.1.max(q), dims.2.max(k));
    }
    let (heads, queries, keys) = dims;
    let mut out = vec![0f32; slots * heads * queries * keys];
    for (row, (slot, _)) in rows.iter().zip(segments) {
        let (h, q, k) = row.dims3()?;
        let values = row.flatten_all()?.to_vec1::<f32>()?;
        for (line, weights) in values.chunks_exact(k.max(1)).enumerate().take(h * q) {
            let target = ((slot * heads + line / q) * queries + line % q) * keys;
            out[target..target + k].copy_from_slice(weights);
        }
    }
    Ok(Tensor::from_f32(name, &[slots, heads, queries, keys], &out))
}
