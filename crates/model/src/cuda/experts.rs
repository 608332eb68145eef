//! Feed-forward layers on a device: dense, and routed, sorted and grouped without a word from the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Tensor};
use switch_kernels::cuda::{
    most_tiles, permute, product, route, Flags, Launches, Permutation, Product, Route, WeightType, PERMUTE_CHUNK,
};
use switch_kernels::{Activation, Routes};

use super::run::{floats, model_error, run, wrap, Buffer};
use super::weights::{arithmetic, multiply};
use crate::config::{RouterDtype, SwitchTransformersConfig};
use crate::error::{ModelError, Result};
use crate::layers::{ExpertBank, FeedForward};
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::weight::Weight;

/// `act(x · wiᵀ) · woᵀ`, or gated, of a dense layer.
pub fn feed_forward(
    weights: &FeedForward,
    act: Activation,
    storage: &CudaStorage,
    layout: &Layout,
) -> candle_core::Result<(CudaStorage, Shape)> {
    let device = storage_device(storage);
    let (tokens, width) = layout.shape().dims2()?;
    let x = floats(storage, layout)?;
    let (wi, wi_1, wo) = weights.matrices();
    let d_ff = wi.shape().first().copied().unwrap_or(0);
    let hidden = Buffer::<f32>::new(&device, tokens * d_ff)?;
    let y = Buffer::<f32>::new(&device, tokens * width)?;
    let mut launches = Launches::new();
    let mut push = |x, weight: &Weight, act, gate, y| {
        multiply(&mut launches, &device, x, tokens, weight, act, gate, y).map_err(model_error)
    };
    push(x, wi, act, false, hidden.address())?;
    if let Some(wi_1) = wi_1 {
        push(x, wi_1, Activation::Identity, true, hidden.address())?;
    }
    push(hidden.address(), wo, Activation::Identity, false, y.address())?;
    run(&device, &launches).map_err(model_error)?;
    Ok(wrap(y, &device, layout.shape().clone()))
}

pub(super) fn storage_device(storage: &CudaStorage) -> CudaDevice {
    use candle_core::backend::BackendStorage;
    storage.device().clone()
}

/// The addresses of a layer's experts, by matrix.
struct Table {
    wi: Buffer<u64>,
    wi_1: Option<Buffer<u64>>,
    wo: Buffer<u64>,
    kind: WeightType,
    d_ff: usize,
}

/// Tables of the layers used so far.
#[derive(Default)]
pub struct ExpertTables(Mutex<HashMap<(DeviceId, usize), Arc<Table>>>);

impl ExpertTables {
    /// A layer's table; its experts are uploaded when it is first asked for.
    fn of(
        &self,
        device: &CudaDevice,
        bank: &ExpertBank,
        layer: usize,
        experts: usize,
    ) -> candle_core::Result<Arc<Table>> {
        let key = (device.id(), layer);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = held.get(&key) {
            return Ok(Arc::clone(table));
        }
        let (mut wi, mut wi_1, mut wo) = (Vec::new(), Vec::new(), Vec::new());
        let mut kind_of_all: Option<(WeightType, usize)> = None;
        for index in 0..experts {
            let (i, i_1, o) = bank.expert(layer, index).map_err(model_error)?.matrices();
            let kind = (i.cuda_type(), i.shape().first().copied().unwrap_or(0));
            let alike = i_1.into_iter().chain([o]).all(|w| w.cuda_type() == kind.0);
            if !alike || kind_of_all.is_some_and(|all| all != kind) {
                return Err(model_error(ModelError::internal("experts of several types in one layer")));
            }
            kind_of_all = Some(kind);
            wi.push(i.on_cuda(device)?);
            wo.push(o.on_cuda(device)?);
            if let Some(i_1) = i_1 {
                wi_1.push(i_1.on_cuda(device)?);
            }
        }
        let (kind, d_ff) = kind_of_all.ok_or_else(|| model_error(ModelError::internal("no experts")))?;
        let table = Arc::new(Table {
            wi: Buffer::from_host(device, &wi)?,
            wi_1: if wi_1.is_empty() { None } else { Some(Buffer::from_host(device, &wi_1)?) },
            wo: Buffer::from_host(device, &wo)?,
            kind,
            d_ff,
        });
        held.insert(key, Arc::clone(&table));
        Ok(table)
    }
}

/// What a sparse layer needs beside its input and logits.
pub struct Routed<'a> {
    pub rows: &'a Rows,
    pub config: &'a SwitchTransformersConfig,
    pub policy: &'a RoutingPolicy,
    pub dtype: RouterDtype,
    pub bank: &'a ExpertBank,
    pub layer: usize,
    /// Whether the decisions are to be read back.
    pub want_routes: bool,
}

struct Sparse<'a> {
    routed: &'a Routed<'a>,
    routes: Mutex<Option<Routes>>,
}

impl CustomOp2 for Sparse<'_> {
    fn name(&self) -> &'static str {
        "switch-routed-experts"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Err(candle_core::Error::Msg("this op runs on CUDA only".into()))
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let Routed { rows, config, policy, dtype, bank, layer, want_routes } = *self.routed;
        let device = storage_device(s1);
        let (tokens, width) = l1.shape().dims2()?;
        let experts = l2.shape().dims2()?.1;
        let (x, logits) = (floats(s1, l1)?, floats(s2, l2)?);
        let table = bank.cuda_tables().of(&device, bank, layer, experts)?;

        // Routing. Rows may differ in length, and with a factor in their capacity.
        let mut starts = vec![0i32];
        let (mut capacities, mut longest) = (Vec::new(), 0);
        for (start, len) in rows.spans() {
            starts.push(i32::try_from(start + len).unwrap_or(i32::MAX));
            let capacity = policy.options(config, len, dtype).capacity;
            capacities.push(capacity.map_or(-1, |c| i32::try_from(c).unwrap_or(i32::MAX)));
            longest = longest.max(len);
        }
        let mask = rows.mask().map(|mask| Buffer::from_host(&device, mask)).transpose()?;
        let (starts, capacities) = (Buffer::from_host(&device, &starts)?, Buffer::from_host(&device, &capacities)?);
        let expert = Buffer::<i32>::new(&device, tokens)?;
        let slot = Buffer::<i32>::new(&device, tokens)?;
        let weight = Buffer::<f32>::new(&device, tokens)?;
        let r = Route {
            logits,
            mask: mask.as_ref().map_or(0, Buffer::address),
            starts: starts.address(),
            capacities: capacities.address(),
            expert: expert.address(),
            slot: slot.address(),
            weight: weight.address(),
        };
        let mut launches = Launches::new();
        let options = policy.options(config, longest, dtype);
        let kernel = |e: switch_kernels::KernelError| model_error(e.into());
        route(&mut launches, &r, tokens, rows.count(), longest, experts, &options).map_err(kernel)?;

        // Sorting.
        let kind = table.kind;
        let how = arithmetic(kind).map_err(model_error)?;
        let tile_count = most_tiles(how, kind, tokens, experts);
        let counts = Buffer::<i32>::new(&device, tokens.div_ceil(PERMUTE_CHUNK) * experts)?;
        let offsets = Buffer::<i32>::new(&device, experts + 1)?;
        let order = Buffer::<i32>::new(&device, tokens)?;
        let tiles = Buffer::<i32>::new(&device, tile_count * 3)?;
        let list = Permutation {
            expert: expert.address(),
            counts: counts.address(),
            offsets: offsets.address(),
            order: order.address(),
            tiles: tiles.address(),
        };
        permute(&mut launches, how, kind, &list, tokens, experts).map_err(kernel)?;

        // The experts. Dropped tokens keep the zeros that are there first.
        let d_ff = table.d_ff;
        let hidden = Buffer::<f32>::new(&device, tokens * d_ff)?;
        let y = Buffer(device.alloc_zeros::<f32>((tokens * width).max(1))?);
        let grouped = Product {
            order: list.order,
            tiles: list.tiles,
            tile_count,
            m: tokens,
            a_k: 1,
            b_k: 1,
            ..Product::default()
        };
        let gather = Flags { gather: true, ..Flags::default() };
        let inner = Product {
            a: x,
            a_row: width,
            b_row: width,
            y: hidden.address(),
            y_row: d_ff,
            n: d_ff,
            k: width,
            ..grouped
        };
        let mut push = |act, p: &Product| product(&mut launches, how, kind, act, p).map_err(kernel);
        push(config.activation.activation, &Product { b_table: table.wi.address(), flags: gather, ..inner })?;
        if let Some(wi_1) = &table.wi_1 {
            let flags = Flags { multiply: true, ..gather };
            push(Activation::Identity, &Product { b_table: wi_1.address(), flags, ..inner })?;
        }
        let outer = Product {
            a: hidden.address(),
            a_row: d_ff,
            b_table: table.wo.address(),
            b_row: d_ff,
            y: y.address(),
            y_row: width,
            row_weight: weight.address(),
            n: width,
            k: d_ff,
            flags: Flags { scatter: true, ..Flags::default() },
            ..grouped
        };
        push(Activation::Identity, &outer)?;
        run(&device, &launches).map_err(model_error)?;
        if want_routes {
            let mut read = Routes {
                expert: device.clone_dtoh(&expert.0)?,
                slot: device.clone_dtoh(&slot.0)?,
                weight: device.clone_dtoh(&weight.0)?,
            };
            (read.expert.truncate(tokens), read.slot.truncate(tokens), read.weight.truncate(tokens));
            *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        }
        Ok(wrap(y, &device, l1.shape().clone()))
    }
}

/// `x` `[tokens, d_model]` through the experts that `logits` `[tokens, experts]` choose; the decisions, where wanted.
pub fn sparse(x: &Tensor, logits: &Tensor, routed: &Routed<'_>) -> Result<(Tensor, Option<Routes>)> {
    let op = Sparse { routed, routes: Mutex::new(None) };
    let y = x.apply_op2_no_bwd(logits, &op)?;
    Ok((y, op.routes.into_inner().unwrap_or_else(PoisonError::into_inner)))
}
