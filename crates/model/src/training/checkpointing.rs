//! Gradient checkpointing (Chen et al., arXiv 1604.06174): of a block only its input (in the decoder also its keys and
//! values of the encoder's output) is kept, and the way back computes the block again. Noise comes from seeds, so that it
//! is the same both times.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Shape, Tensor};

use super::pass::TrainingPass;
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::layers::{BiasSpan, Block, BlockInput, CrossKeyValues, CrossRows, ExpertBank};
use crate::ops;
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::trace::Trace;

/// A block with everything that it needs to run once more.
struct Again {
    block: Arc<Block>,
    layer: usize,
    rows: Rows,
    bias: Arc<BiasSpan>,
    config: Arc<SwitchTransformersConfig>,
    policy: RoutingPolicy,
    bank: Arc<ExpertBank>,
    /// Encoder rows and which of them each row reads.
    cross: Option<(Rows, Vec<usize>)>,
    pass: TrainingPass,
    /// What the first run found, until the graph has taken it.
    found: Mutex<Option<Tensor>>,
}

/// Outputs and, of a sparse layer, router logits, side by side: an op has one result.
fn side_by_side(y: &Tensor, trace: &Trace) -> Result<Tensor> {
    match trace.router_logits.last() {
        #[cfg(feature = "cuda")]
        Some(logits) if y.device().is_cuda() => {
            let width = y.dim(1)?;
            Ok(crate::cuda::spread(&[(y, 0), (logits, width)], width + logits.dim(1)?)?)
        }
        Some(logits) => Ok(Tensor::cat(&[y, logits], 1)?),
        None => Ok(y.clone()),
    }
}

impl Again {
    fn run(&self, x: &Tensor, key_values: Option<CrossKeyValues>, trace: &mut Trace) -> Result<Tensor> {
        // The block looks its own keys and values up by its number.
        let layers: Vec<CrossKeyValues> =
            key_values.map(|kv| (0..=self.layer).map(|_| kv.clone()).collect()).unwrap_or_default();
        let cross =
            self.cross.as_ref().map(|(encoder_rows, row_of)| (CrossRows { encoder_rows, row_of }, layers.as_slice()));
        let input = BlockInput {
            rows: &self.rows,
            bias: &self.bias,
            config: &self.config,
            policy: &self.policy,
            bank: &self.bank,
            cross,
            training: Some(&self.pass),
        };
        self.block.forward(x, &input, self.layer, None, trace)
    }

    fn forward(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let found = found.ok_or_else(|| candle_core::Error::Msg("a block's result was taken twice".into()))?;
        let values = ops::on_values(&found, |values| Ok(values.to_vec()))?;
        Ok((CpuStorage::F32(values), found.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward(&self) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let found = found.ok_or_else(|| candle_core::Error::Msg("a block's result was taken twice".into()))?;
        let width = found.dim(1)?;
        let (storage, layout) = found.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cuda(storage) => crate::cuda::columns(storage, layout, 0, width),
            _ => Err(candle_core::Error::Msg("expected a tensor on CUDA".into())),
        }
    }

    /// Gradients of the inputs, from that of the result.
    fn backward(&self, inputs: &[&Tensor], gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let key_values = match inputs {
            [_, keys, values] => Some(CrossKeyValues { keys: (*keys).clone(), values: (*values).clone() }),
            _ => None,
        };
        let x = *inputs.first().ok_or_else(|| ModelError::internal("a block without input"))?;
        let mut trace = Trace { want_router_logits: true, ..Trace::default() };
        let (y, tape) = ops::record(|| {
            inputs.iter().for_each(|x| ops::track(x));
            self.run(x, key_values, &mut trace)
        })?;
        let width = y.dim(1)?;
        let mut seeds = Vec::new();
        if let Some(logits) = trace.router_logits.last() {
            let part = ops::columns(gradient, width, logits.dim(1)?)?;
            seeds.push((logits, ops::values_of(&part)?));
        }
        seeds.push((&y, ops::values_of(&ops::columns(gradient, 0, width)?)?));
        tape.backward(seeds, inputs)
    }
}

fn failure(error: ModelError) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}

impl CustomOp1 for Again {
    fn name(&self) -> &'static str {
        "switch-checkpointed-block"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        self.cuda_forward()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(self.backward(&[x], gradient).map_err(failure)?.pop().flatten())
    }
}

impl CustomOp3 for Again {
    fn name(&self) -> &'static str {
        "switch-checkpointed-block"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        self.cuda_forward()
    }

    fn bwd(
        &self,
        x: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[x, keys, values], gradient).map_err(failure)?.into_iter();
        Ok((gradients.next().flatten(), gradients.next().flatten(), gradients.next().flatten()))
    }
}

/// Runs a block on tracked `x` and keeps nothing of it but what is needed to run it again.
pub fn checkpointed(
    block: &Arc<Block>,
    x: &Tensor,
    input: &BlockInput<'_>,
    layer: usize,
    trace: &mut Trace,
) -> Result<Tensor> {
    let pass = *input.training.ok_or_else(|| ModelError::internal("checkpointing outside of training"))?;
    let own = input.cross.as_ref().and_then(|(_, key_values)| key_values.get(layer));
    let again = Again {
        block: Arc::clone(block),
        layer,
        rows: input.rows.clone(),
        bias: Arc::clone(input.bias),
        config: Arc::clone(input.config),
        policy: *input.policy,
        bank: Arc::clone(input.bank),
        cross: input.cross.as_ref().map(|(rows, _)| (rows.encoder_rows.clone(), rows.row_of.to_vec())),
        pass,
        found: Mutex::default(),
    };
    let mut inner = Trace { want_router_logits: true, want_routes: true, ..Trace::default() };
    // Of the first run nothing is kept but its result; it is recorded so that both runs go through the same kernels.
    let (y, _) = ops::record(|| {
        ops::track(x);
        again.run(x, own.cloned(), &mut inner)
    })?;
    *again.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(side_by_side(&y, &inner)?);
    let width = y.dim(1)?;
    let result = match own {
        Some(kv) => ops::apply3(x, &kv.keys, &kv.values, again, ops::Keep::Inputs)?,
        None => ops::apply1(x, again, ops::Keep::Inputs)?,
    };
    if let (Some(logits), Some(routes)) = (inner.router_logits.last(), inner.routes.last()) {
        trace.router(&ops::columns(&result, width, logits.dim(1)?)?, routes);
    }
    match result.dim(1)? == width {
        true => Ok(result),
        false => ops::columns(&result, 0, width),
    }
}
