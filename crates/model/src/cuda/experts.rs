//! Feed-forward layers on a device: dense, and routed, sorted and grouped without a word from the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Tensor};
use switch_kernels::cuda::{
    most_tiles, permute, product, route, Address, Flags, Launches, Permutation, Product, Route, WeightType,
    PERMUTE_CHUNK,
};
use switch_kernels::{Activation, Precision, Routes};

use super::run::{floats, model_error, run, wrap, Buffer};
use super::weights::{arithmetic, multiply, passing};
use crate::config::{RouterDtype, SwitchTransformersConfig};
use crate::error::{code, ModelError, Result};
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
pub(super) struct Table {
    pub(super) wi: Matrices,
    pub(super) wi_1: Option<Matrices>,
    pub(super) wo: Matrices,
    pub(super) d_ff: usize,
    /// Matrices that are here for one pass only.
    _passing: Vec<(Buffer<u8>, Option<Buffer<f32>>)>,
}

/// One matrix of every expert: values, scales where they are quantised, and their one type.
pub(super) struct Matrices {
    pub(super) values: Buffer<u64>,
    pub(super) scales: Buffer<u64>,
    pub(super) kind: WeightType,
    pub(super) precision: Precision,
}

impl Matrices {
    fn new(device: &CudaDevice, weights: &[&Weight]) -> candle_core::Result<Self> {
        Self::at(device, weights, |_, weight| weight.on_cuda_with_scales(device))
    }

    /// The addresses that `place` gives by the expert's number.
    fn at(
        device: &CudaDevice,
        weights: &[&Weight],
        mut place: impl FnMut(usize, &Weight) -> candle_core::Result<(Address, Address)>,
    ) -> candle_core::Result<Self> {
        let kind = weights.first().map(|w| w.cuda_type());
        let kind = kind
            .filter(|kind| weights.iter().all(|w| w.cuda_type() == *kind))
            .ok_or_else(|| model_error(ModelError::new(
                    code::UNSUPPORTED_OPTION,
                    "the experts of a layer are stored in several types, expected one on CUDA: freeze all of them or none, \
                     or load the model with dtype: 'float32'",
                )))?;
        let (mut values, mut scales) = (Vec::new(), Vec::new());
        let precision = weights.first().map(|w| w.precision()).unwrap_or_default();
        for (expert, weight) in weights.iter().enumerate() {
            let addresses = place(expert, weight)?;
            values.push(addresses.0);
            scales.push(addresses.1);
        }
        let (values, scales) = (Buffer::from_host(device, &values)?, Buffer::from_host(device, &scales)?);
        Ok(Self { values, scales, kind, precision })
    }
}

/// The matrices of a layer's experts, each by expert.
struct Bank<'a> {
    wi: Vec<&'a Weight>,
    wi_1: Vec<&'a Weight>,
    wo: Vec<&'a Weight>,
}

impl<'a> Bank<'a> {
    fn new(bank: &'a ExpertBank, layer: usize, experts: usize) -> Result<Self> {
        let mut all = Self { wi: Vec::new(), wi_1: Vec::new(), wo: Vec::new() };
        for index in 0..experts {
            let (wi, wi_1, wo) = bank.expert(layer, index)?.matrices();
            all.wi.push(wi);
            all.wi_1.extend(wi_1);
            all.wo.push(wo);
        }
        Ok(all)
    }

    fn d_ff(&self) -> usize {
        self.wi.first().and_then(|w| w.shape().first()).copied().unwrap_or(0)
    }
}

impl Table {
    /// A layer of which only the experts `chosen` (ascending) are on the device, for as long as the table is.
    pub(super) fn passing(
        device: &CudaDevice,
        bank: &ExpertBank,
        layer: usize,
        experts: usize,
        chosen: &[usize],
    ) -> candle_core::Result<Arc<Self>> {
        let all = Bank::new(bank, layer, experts).map_err(model_error)?;
        let mut held = Vec::new();
        let mut copied = |weights: &[&Weight]| {
            Matrices::at(device, weights, |expert, weight| {
                if chosen.binary_search(&expert).is_err() {
                    return Ok((0, 0));
                }
                let (values, scales) = passing(device, weight.values())?;
                let addresses = (values.address(), scales.as_ref().map_or(0, Buffer::address));
                held.push((values, scales));
                Ok(addresses)
            })
        };
        let wi = copied(&all.wi)?;
        let wi_1 = if all.wi_1.is_empty() { None } else { Some(copied(&all.wi_1)?) };
        let wo = copied(&all.wo)?;
        Ok(Arc::new(Self { wi, wi_1, wo, d_ff: all.d_ff(), _passing: held }))
    }
}

/// Tables of the layers used so far.
#[derive(Default)]
pub struct ExpertTables(Mutex<HashMap<(DeviceId, usize), Arc<Table>>>);

impl ExpertTables {
    /// A layer's table; its experts are uploaded when it is first asked for.
    pub(super) fn of(
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
        let all = Bank::new(bank, layer, experts).map_err(model_error)?;
        let table = Arc::new(Table {
            wi: Matrices::new(device, &all.wi)?,
            wi_1: if all.wi_1.is_empty() { None } else { Some(Matrices::new(device, &all.wi_1)?) },
            wo: Matrices::new(device, &all.wo)?,
            d_ff: all.d_ff(),
            _passing: Vec::new(),
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
    /// In the place of the bank's.
    table: Option<Arc<Table>>,
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
        let table = match &self.table {
            Some(table) => Arc::clone(table),
            None => bank.cuda_tables().of(&device, bank, layer, experts)?,
        };

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

        // Sorting. Tiles depend on how a matrix is multiplied; matrices of one layer may be stored differently.
        let kind = table.wi.kind;
        let how = |of: &Matrices| arithmetic(of.kind, of.precision).map_err(model_error);
        let tile_count = most_tiles(how(&table.wi)?, kind, tokens, experts);
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
        permute(&mut launches, how(&table.wi)?, kind, &list, tokens, experts).map_err(kernel)?;
        for other in table.wi_1.iter().chain([&table.wo]) {
            if most_tiles(how(other)?, other.kind, tokens, experts) != tile_count {
                return Err(model_error(ModelError::internal("matrices of one layer that are multiplied differently")));
            }
        }

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
        let mut push = |act, of: &Matrices, p: &Product| {
            let p = Product { b_table: of.values.address(), scale_table: of.scales.address(), ..*p };
            product(&mut launches, how(of)?, of.kind, act, &p).map_err(kernel)
        };
        push(config.activation.activation, &table.wi, &Product { flags: gather, ..inner })?;
        if let Some(wi_1) = &table.wi_1 {
            push(Activation::Identity, wi_1, &Product { flags: Flags { multiply: true, ..gather }, ..inner })?;
        }
        let outer = Product {
            a: hidden.address(),
            a_row: d_ff,
            b_row: d_ff,
            y: y.address(),
            y_row: width,
            row_weight: weight.address(),
            n: width,
            k: d_ff,
            flags: Flags { scatter: true, ..Flags::default() },
            ..grouped
        };
        push(Activation::Identity, &table.wo, &outer)?;
        run(&device, &launches).map_err(model_error)?;
        if want_routes {
            let mut read = Routes {
                expert: device.clone_dtoh(&expert.0)?,
                slot: device.clone_dtoh(&slot.0)?,
                weight: device.clone_dtoh(&weight.0)?,
            };
            read.expert.truncate(tokens);
            read.slot.truncate(tokens);
            read.weight.truncate(tokens);
            *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        }
        Ok(wrap(y, &device, l1.shape().clone()))
    }
}

/// `x` `[tokens, d_model]` through the experts that `logits` `[tokens, experts]` choose; the decisions, where wanted.
pub fn sparse(x: &Tensor, logits: &Tensor, routed: &Routed<'_>) -> Result<(Tensor, Option<Routes>)> {
    let op = Sparse { routed, table: None, routes: Mutex::new(None) };
    let y = x.apply_op2_no_bwd(logits, &op)?;
    Ok((y, op.routes.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// [`sparse`] through matrices that are not the bank's own.
pub(super) fn sparse_with(x: &Tensor, logits: &Tensor, routed: &Routed<'_>, table: Arc<Table>) -> Result<Tensor> {
    let op = Sparse { routed, table: Some(table), routes: Mutex::new(None) };
    Ok(x.apply_op2_no_bwd(logits, &op)?)
}
