//! One batch: forward, losses, and the way back.
//!
//! The head and the cross entropy are taken together, a few tokens at a time, with their gradient: the logits of a batch
//! (1024 tokens by 32128 words are 131 MB, and as much again for their gradient) never exist.

use candle_core::Tensor;
use serde::Serialize;
use switch_kernels::training::{linear_backward_input, token_loss, TokenLossOptions, TokenLossSums};
use switch_kernels::{linear_with, Routes};

use super::{Training, TrainingPass};
use crate::error::{ModelError, Result};
use crate::losses::{router_loss_gradients, IGNORE_INDEX};
use crate::model::{SwitchTransformers, Tokens};
use crate::ops;
use crate::rows::Rows;
use crate::trace::Trace;
use crate::weight::try_zeros;

/// Logits computed at a time, at most this many values.
const CHUNK_VALUES: usize = 8 << 20;

/// A batch with labels: rows of one length on each side.
pub struct TrainingBatch {
    pub input_ids: Vec<u32>,
    pub encoder_rows: Rows,
    pub decoder_input_ids: Vec<u32>,
    pub decoder_rows: Rows,
    /// As many as decoder tokens; -100 does not count.
    pub labels: Vec<i64>,
}

/// How one sparse layer spread a batch's tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerLoad {
    pub stack: &'static str,
    pub layer: usize,
    /// Tokens that chose each expert.
    pub load: Vec<u64>,
    /// How many of them found it full.
    pub dropped: u64,
}

/// See `StepReport` of the contract.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StepReport {
    pub loss: f64,
    pub cross_entropy: f64,
    pub logits_z_loss: f64,
    pub distillation_loss: f64,
    pub encoder_z_loss: f64,
    pub encoder_aux_loss: f64,
    pub decoder_z_loss: f64,
    pub decoder_aux_loss: f64,
    pub targets: u64,
    pub correct: u64,
    pub tokens: u64,
    pub layers: Vec<LayerLoad>,
    pub non_finite: Option<String>,
}

/// What a forward pass leaves for the losses.
struct Passed {
    encoder: Trace,
    decoder: Trace,
    /// `[tokens, d_model]`.
    hidden: Tensor,
}

fn trace() -> Trace {
    Trace { want_router_logits: true, want_routes: true, ..Trace::default() }
}

fn forward(model: &SwitchTransformers, batch: &TrainingBatch, pass: &TrainingPass) -> Result<Passed> {
    let (mut encoder, mut decoder) = (trace(), trace());
    let states = model.encode_in(Some(pass), Tokens::Ids(&batch.input_ids), &batch.encoder_rows, &mut encoder)?;
    let hidden = model.decode_in(
        Some(pass),
        Tokens::Ids(&batch.decoder_input_ids),
        &batch.decoder_rows,
        &states,
        &batch.encoder_rows,
        &mut decoder,
    )?;
    Ok(Passed { encoder, decoder, hidden })
}

impl Training {
    /// Adds the gradients of a batch's loss, times `loss_scale`. Noise is drawn from the seed and `step`. When it fails, all
    /// gradients are forgotten: some of this batch's may have been among them.
    pub fn step(&mut self, batch: &TrainingBatch, step: u64, loss_scale: f32) -> Result<StepReport> {
        let report = self.forward_and_back(batch, step, loss_scale);
        ops::buffers::end_turn();
        if report.is_err() {
            self.clear_gradients();
        }
        report
    }

    fn forward_and_back(&mut self, batch: &TrainingBatch, step: u64, loss_scale: f32) -> Result<StepReport> {
        let pass = self.options.pass(self.model.config(), step);
        let (passed, tape) = ops::record(|| forward(&self.model, batch, &pass))?;
        let (mut report, gradient) = self.losses(batch, &passed, Some(loss_scale))?;
        if !report.loss.is_finite() {
            report.non_finite = Some(self.find_non_finite(batch, &pass, &report)?);
            self.clear_gradients();
            return Ok(report);
        }
        let mut seeds = vec![(&passed.hidden, gradient)];
        let (z, aux) = self.router_coefficients();
        let scale = f64::from(loss_scale);
        let rows = batch.encoder_rows.count();
        for (trace, decoder) in [(&passed.encoder, false), (&passed.decoder, true)] {
            let step = self.sparse_step(decoder);
            let gradients = router_loss_gradients(&trace.router_logits, rows, step, z * scale, aux * scale)?;
            seeds.extend(trace.router_logits.iter().zip(gradients));
        }
        tape.backward(seeds, &[])?;
        Ok(report)
    }

    /// A batch's losses, without noise and gradients.
    pub fn evaluate(&self, batch: &TrainingBatch) -> Result<StepReport> {
        let pass = self.options.quiet_pass();
        let passed = forward(&self.model, batch, &pass)?;
        let (mut report, _) = self.losses(batch, &passed, None)?;
        if !report.loss.is_finite() {
            report.non_finite = Some(self.find_non_finite(batch, &pass, &report)?);
        }
        Ok(report)
    }

    /// Weights of the labels and of the teacher's predictions.
    fn label_weights(&self) -> (f64, f64) {
        match self.teacher {
            Some(_) => (1.0 - self.options.soft_label_weight, self.options.soft_label_weight),
            None => (1.0, 0.0),
        }
    }

    fn sparse_step(&self, decoder: bool) -> usize {
        let config = self.model.config();
        if decoder {
            config.decoder_sparse_step
        } else {
            config.encoder_sparse_step
        }
    }

    /// Coefficients of the router's z-loss and load-balancing loss.
    fn router_coefficients(&self) -> (f64, f64) {
        let config = self.model.config();
        (
            self.options.router_z_loss_coef.unwrap_or(config.router_z_loss_coef),
            self.options.router_aux_loss_coef.unwrap_or(config.router_aux_loss_coef),
        )
    }

    /// All losses, and with `loss_scale` the gradient of the hidden states; the head's goes to the head.
    fn losses(
        &self,
        batch: &TrainingBatch,
        passed: &Passed,
        loss_scale: Option<f32>,
    ) -> Result<(StepReport, Vec<f32>)> {
        let teacher = match &self.teacher {
            Some(teacher) => Some((teacher, forward(teacher, batch, &self.options.quiet_pass())?.hidden)),
            None => None,
        };
        let (sums, gradient) = self.token_losses(batch, &passed.hidden, teacher, loss_scale)?;
        let config = self.model.config();
        let rows = batch.encoder_rows.count();
        let encoder = crate::losses::router_losses(&passed.encoder.router_logits, rows, config.encoder_sparse_step)?;
        let decoder = crate::losses::router_losses(&passed.decoder.router_logits, rows, config.decoder_sparse_step)?;
        let count = sums.count as f64;
        let (cross_entropy, z, soft) = (sums.hard / count, sums.z / count, sums.soft / count);
        let (hard_weight, soft_weight) = self.label_weights();
        let (z_coef, aux_coef) = self.router_coefficients();
        let routers = z_coef * f64::from(encoder.z_loss + decoder.z_loss)
            + aux_coef * f64::from(encoder.aux_loss + decoder.aux_loss);
        let mut layers = loads("encoder", &config.sparse_encoder_layers, &passed.encoder)?;
        layers.extend(loads("decoder", &config.sparse_decoder_layers, &passed.decoder)?);
        let real = |rows: &Rows| rows.mask().map_or(rows.tokens(), |m| m.iter().filter(|m| **m != 0).count()) as u64;
        let report = StepReport {
            loss: hard_weight * cross_entropy
                + self.options.logits_z_loss_coef * z
                + if soft_weight > 0.0 { soft_weight * soft } else { 0.0 }
                + routers,
            cross_entropy,
            logits_z_loss: z,
            distillation_loss: if self.teacher.is_some() { soft } else { 0.0 },
            encoder_z_loss: f64::from(encoder.z_loss),
            encoder_aux_loss: f64::from(encoder.aux_loss),
            decoder_z_loss: f64::from(decoder.z_loss),
            decoder_aux_loss: f64::from(decoder.aux_loss),
            targets: sums.count,
            correct: sums.correct,
            tokens: real(&batch.encoder_rows) + real(&batch.decoder_rows),
            layers,
            non_finite: None,
        };
        Ok((report, gradient))
    }

    /// Losses over the vocabulary. Tokens whose label does not count cost nothing.
    fn token_losses(
        &self,
        batch: &TrainingBatch,
        hidden: &Tensor,
        teacher: Option<(&std::sync::Arc<SwitchTransformers>, Tensor)>,
        loss_scale: Option<f32>,
    ) -> Result<(TokenLossSums, Vec<f32>)> {
        let (head, scale) = self.model.head()?;
        let counted: Vec<usize> = (0..batch.labels.len()).filter(|i| batch.labels[*i] != IGNORE_INDEX).collect();
        if counted.is_empty() {
            return Err(ModelError::input("labels: found none that counts, expected at least one that is not -100"));
        }
        let (hard_weight, soft_weight) = self.label_weights();
        let options = TokenLossOptions {
            label_smoothing: self.options.label_smoothing as f32,
            z_loss: self.options.logits_z_loss_coef as f32,
            ignore_index: IGNORE_INDEX,
            hard_weight: hard_weight as f32,
            soft_weight: soft_weight as f32,
            temperature: self.options.temperature as f32,
        };
        let per_target = loss_scale.map(|loss_scale| loss_scale / counted.len() as f32);
        #[cfg(feature = "cuda")]
        if hidden.device().is_cuda() {
            use crate::cuda::{token_losses, Head};
            let teacher = match &teacher {
                Some((teacher, hidden)) => {
                    let (weight, scale) = teacher.head()?;
                    Some(Head { weight, scale, hidden })
                }
                None => None,
            };
            let head = Head { weight: head, scale, hidden };
            return token_losses(head, teacher, &batch.labels, &counted, &options, per_target);
        }
        let (matrix, precision) = (head.matrix()?, head.precision());
        let (vocab, width) = (matrix.rows, matrix.cols);
        let hidden = ops::on_values(hidden, |values| Ok(values.to_vec()))?;
        let teacher = match teacher {
            Some((teacher, states)) => Some((teacher, ops::on_values(&states, |values| Ok(values.to_vec()))?)),
            None => None,
        };
        let mut gradient = if loss_scale.is_some() { ops::buffers::take_zeros(hidden.len())? } else { Vec::new() };
        let chunk = (CHUNK_VALUES / vocab.max(1)).clamp(1, counted.len());
        let mut logits = try_zeros(chunk * vocab)?;
        let mut teacher_logits = if teacher.is_some() { try_zeros(chunk * vocab)? } else { Vec::new() };
        let (mut x, mut dx) = (try_zeros(chunk * width)?, try_zeros(chunk * width)?);
        let mut sums = TokenLossSums::default();
        for tokens in counted.chunks(chunk) {
            let n = tokens.len();
            gather(&hidden, width, scale, tokens, &mut x);
            let logits = &mut logits[..n * vocab];
            linear_with(precision, &x[..n * width], n, matrix, logits)?;
            let labels: Vec<i64> = tokens.iter().map(|t| batch.labels[*t]).collect();
            let taught = match &teacher {
                Some((teacher, states)) => {
                    let (head, scale) = teacher.head()?;
                    let matrix = head.matrix()?;
                    let mut states_of = try_zeros(n * matrix.cols)?;
                    gather(states, matrix.cols, scale, tokens, &mut states_of);
                    let taught = &mut teacher_logits[..n * vocab];
                    linear_with(head.precision(), &states_of, n, matrix, taught)?;
                    Some(&*taught)
                }
                None => None,
            };
            let found = token_loss(logits, vocab, &labels, taught, &options, per_target)?;
            let finite = found.hard.is_finite() && found.z.is_finite() && found.soft.is_finite();
            sums.hard += found.hard;
            sums.z += found.z;
            sums.soft += found.soft;
            sums.count += found.count;
            sums.correct += found.correct;
            if loss_scale.is_none() || !finite {
                continue;
            }
            let dx = &mut dx[..n * width];
            linear_backward_input(precision, logits, n, matrix, dx)?;
            for (row, token) in dx.chunks_exact(width.max(1)).zip(tokens) {
                let to = &mut gradient[token * width..(token + 1) * width];
                to.iter_mut().zip(row).for_each(|(to, value)| *to = value * scale);
            }
            if let Some(trainable) = head.trainable() {
                trainable.add_linear(precision, logits, &x[..n * width], n, vocab, width)?;
            }
        }
        Ok((sums, gradient))
    }

    /// Names the first thing in a pass that was not finite.
    fn find_non_finite(&self, batch: &TrainingBatch, pass: &TrainingPass, report: &StepReport) -> Result<String> {
        let pass = TrainingPass { gradient_checkpointing: false, ..*pass };
        let mut encoder = Trace { want_hidden_states: true, ..trace() };
        let states =
            self.model.encode_in(Some(&pass), Tokens::Ids(&batch.input_ids), &batch.encoder_rows, &mut encoder)?;
        let mut decoder = Trace { want_hidden_states: true, ..trace() };
        self.model.decode_in(
            Some(&pass),
            Tokens::Ids(&batch.decoder_input_ids),
            &batch.decoder_rows,
            &states,
            &batch.encoder_rows,
            &mut decoder,
        )?;
        for (name, trace) in [("encoder", &encoder), ("decoder", &decoder)] {
            for (i, states) in trace.hidden_states.iter().enumerate() {
                if ops::on_values(states, |values| Ok(!switch_kernels::training::all_finite(values)))? {
                    return Ok(match i {
                        0 => format!("{name}.embeddings"),
                        _ if i + 1 == trace.hidden_states.len() => format!("{name}.final_layer_norm"),
                        _ => format!("{name}.block.{}", i - 1),
                    });
                }
            }
        }
        Ok(match report.cross_entropy.is_finite() {
            true => "router losses".into(),
            false => "cross_entropy".into(),
        })
    }
}

/// Rows `tokens` of `x`, scaled.
fn gather(x: &[f32], width: usize, scale: f32, tokens: &[usize], into: &mut [f32]) {
    for (to, token) in into.chunks_exact_mut(width.max(1)).zip(tokens) {
        to.iter_mut().zip(&x[token * width..(token + 1) * width]).for_each(|(to, value)| *to = value * scale);
    }
}

/// How each sparse layer of a stack spread its tokens: the choice is what the router says, before capacity.
fn loads(stack: &'static str, sparse: &[bool], trace: &Trace) -> Result<Vec<LayerLoad>> {
    let numbers = sparse.iter().enumerate().filter(|(_, sparse)| **sparse).map(|(i, _)| i);
    numbers
        .zip(trace.router_logits.iter().zip(&trace.routes))
        .map(|(layer, (logits, routes))| load(stack, layer, logits, routes))
        .collect()
}

fn load(stack: &'static str, layer: usize, logits: &Tensor, routes: &Routes) -> Result<LayerLoad> {
    let experts = logits.dim(1)?;
    let mut load = vec![0u64; experts];
    ops::on_values(logits, |values| {
        for row in values.chunks_exact(experts.max(1)) {
            let mut best = 0;
            for (i, value) in row.iter().enumerate() {
                if *value > row[best] {
                    best = i;
                }
            }
            load[best] += 1;
        }
        Ok(())
    })?;
    let dropped = routes.expert.iter().filter(|e| **e < 0).count() as u64;
    Ok(LayerLoad { stack, layer, load, dropped })
}
