//! Feed-forward layers in a training step: what their forward keeps on the device, and the way back through them.

use std::sync::Arc;

use candle_core::cuda_backend::CudaDevice;
use candle_core::{CudaStorage, Layout, Shape, Tensor};
use switch_kernels::cuda::{
    activate_rows, activate_rows_backward, gate_backward, gather_rows, most_tiles, permute, product, route_backward,
    Activated, Address, Flags, Launches, Permutation, Product, Route, WeightType, PERMUTE_CHUNK,
};
use switch_kernels::training::{Dropout, FeedForwardPart};
use switch_kernels::{Activation, KernelError, Routes};

use super::experts::{storage_device, Table};
use super::gradients::{add_outer, back_to_input, Operand, Outer};
use super::run::{address_of, device_of, floats, model_error, run, wrap, Buffer};
use super::training::tensor;
use super::weights::{arithmetic, multiply};
use crate::error::ModelError;
use crate::layers::{ExpertBank, FeedForward};
use crate::weight::Weight;

fn kernel(error: KernelError) -> candle_core::Error {
    model_error(error.into())
}

/// What goes into the activation, and the gate.
pub struct Hidden {
    pre: Buffer<f32>,
    gate: Option<Buffer<f32>>,
}

impl Hidden {
    fn new(device: &CudaDevice, gated: bool, len: usize) -> candle_core::Result<Self> {
        let gate = if gated { Some(Buffer::new(device, len)?) } else { None };
        Ok(Self { pre: Buffer::new(device, len)?, gate })
    }

    fn activated(&self, act: Activation, dropout: &Dropout, most: usize, d_ff: usize) -> Activated {
        let gate = self.gate.as_ref().map_or(0, Buffer::address);
        let pre = self.pre.address();
        Activated { pre, gate, act, dropout: dropout.into(), order: 0, count: 0, most, d_ff }
    }
}

/// A dense layer's forward.
pub fn dense_train(
    weights: &FeedForward,
    act: Activation,
    dropout: &Dropout,
    storage: &CudaStorage,
    layout: &Layout,
) -> candle_core::Result<(CudaStorage, Shape, Hidden)> {
    let device = storage_device(storage);
    let (n, d) = layout.shape().dims2()?;
    let x = floats(storage, layout)?;
    let (wi, wi_1, wo) = weights.matrices();
    let d_ff = wi.shape().first().copied().unwrap_or(0);
    let hidden = Hidden::new(&device, wi_1.is_some(), n * d_ff)?;
    let (inside, y) = (Buffer::<f32>::new(&device, n * d_ff)?, Buffer::<f32>::new(&device, n * d)?);
    let mut launches = Launches::new();
    let push = |launches: &mut Launches, x, weight: &Weight, y| {
        multiply(launches, &device, x, n, weight, Activation::Identity, false, y).map_err(model_error)
    };
    push(&mut launches, x, wi, hidden.pre.address())?;
    if let (Some(wi_1), Some(gate)) = (wi_1, &hidden.gate) {
        push(&mut launches, x, wi_1, gate.address())?;
    }
    activate_rows(&mut launches, &hidden.activated(act, dropout, n, d_ff), inside.address()).map_err(kernel)?;
    push(&mut launches, inside.address(), wo, y.address())?;
    run(&device, &launches).map_err(model_error)?;
    let (storage, shape) = wrap(y, &device, (n, d));
    Ok((storage, shape, hidden))
}

/// The gradient of a dense layer's input; its matrices' are added where they learn.
pub fn dense_backward(
    weights: &FeedForward,
    act: Activation,
    dropout: &Dropout,
    hidden: &Hidden,
    x: &Tensor,
    dy: &Tensor,
) -> candle_core::Result<Tensor> {
    let device = device_of(dy)?;
    let (n, d) = x.dims2()?;
    let (wi, wi_1, wo) = weights.matrices();
    let d_ff = wi.shape().first().copied().unwrap_or(0);
    let made = |len: usize| Buffer::<f32>::new(&device, len);
    let (activated, inside, dx) = (made(n * d_ff)?, made(n * d_ff)?, made(n * d)?);
    let dgate = made(if wi_1.is_some() { n * d_ff } else { 0 })?;
    let p = hidden.activated(act, dropout, n, d_ff);
    let mut launches = Launches::new();
    activate_rows(&mut launches, &p, activated.address()).map_err(kernel)?;
    let precision = weights.precision();
    let add =
        |launches: &mut Launches, weight: &Weight, p| add_outer(launches, &device, weight.trainable(), precision, p);
    add(&mut launches, wo, Outer { dy: (dy, d), x: (&activated, d_ff), n })?;
    back_to_input(&mut launches, &device, wo, address_of(dy)?, n, inside.address(), false)?;
    activate_rows_backward(&mut launches, &p, inside.address(), dgate.address()).map_err(kernel)?;
    add(&mut launches, wi, Outer { dy: (&inside, d_ff), x: (x, d), n })?;
    back_to_input(&mut launches, &device, wi, inside.address(), n, dx.address(), false)?;
    if let Some(wi_1) = wi_1 {
        add(&mut launches, wi_1, Outer { dy: (&dgate, d_ff), x: (x, d), n })?;
        back_to_input(&mut launches, &device, wi_1, dgate.address(), n, dx.address(), true)?;
    }
    run(&device, &launches).map_err(model_error)?;
    tensor(dx, x, (n, d))
}

/// The tokens of a sparse layer by expert.
struct Sorted {
    expert: Buffer<i32>,
    weight: Buffer<f32>,
    offsets: Buffer<i32>,
    order: Buffer<i32>,
    tiles: Buffer<i32>,
    tile_count: usize,
    tokens: usize,
    experts: usize,
}

impl Sorted {
    /// Sorts for matrices of this kind; pushes the launches.
    fn new(
        launches: &mut Launches,
        device: &CudaDevice,
        routes: &Routes,
        table: &Table,
        experts: usize,
    ) -> candle_core::Result<Self> {
        let (kind, precision) = (table.wi.kind, table.wi.precision);
        let how = arithmetic(kind, precision).map_err(model_error)?;
        let tokens = routes.expert.len();
        let tile_count = most_tiles(how, kind, tokens, experts);
        for other in table.wi_1.iter().chain([&table.wo]) {
            let how = arithmetic(other.kind, other.precision).map_err(model_error)?;
            if most_tiles(how, other.kind, tokens, experts) != tile_count {
                return Err(model_error(ModelError::internal("matrices of one layer that are multiplied differently")));
            }
        }
        let made = |len: usize| Buffer::<i32>::new(device, len);
        let counts = made(tokens.div_ceil(PERMUTE_CHUNK) * experts)?;
        let sorted = Self {
            expert: Buffer::from_host(device, &routes.expert)?,
            weight: Buffer::from_host(device, &routes.weight)?,
            offsets: made(experts + 1)?,
            order: made(tokens)?,
            tiles: made(tile_count * 3)?,
            tile_count,
            tokens,
            experts,
        };
        let list = Permutation {
            expert: sorted.expert.address(),
            counts: counts.address(),
            offsets: sorted.offsets.address(),
            order: sorted.order.address(),
            tiles: sorted.tiles.address(),
        };
        permute(launches, how, kind, &list, tokens, experts).map_err(kernel)?;
        // The counts go in the order of the stream: after these launches.
        run(device, &std::mem::take(launches)).map_err(model_error)?;
        Ok(sorted)
    }

    /// Where the number of sorted tokens lies.
    fn count(&self) -> Address {
        self.offsets.address() + self.experts as u64 * 4
    }

    fn grouped(&self) -> Product {
        Product {
            order: self.order.address(),
            tiles: self.tiles.address(),
            tile_count: self.tile_count,
            m: self.tokens,
            a_k: 1,
            ..Product::default()
        }
    }
}

/// A matrix of the experts in a product over sorted tokens.
fn push_grouped(launches: &mut Launches, of: &super::experts::Matrices, p: &Product) -> candle_core::Result<()> {
    let how = arithmetic(of.kind, of.precision).map_err(model_error)?;
    let p = Product { b_table: of.values.address(), scale_table: of.scales.address(), ..*p };
    product(launches, how, of.kind, Activation::Identity, &p).map_err(kernel)
}

/// What a sparse layer's forward leaves for its way back.
pub struct Kept {
    sorted: Sorted,
    hidden: Hidden,
    table: Arc<Table>,
}

/// A sparse layer of a training step.
pub struct SparseStep<'a> {
    pub bank: &'a ExpertBank,
    pub layer: usize,
    pub routes: &'a Routes,
    pub act: Activation,
    pub dropout: &'a Dropout,
}

impl SparseStep<'_> {
    pub fn forward(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
        experts: usize,
    ) -> candle_core::Result<(CudaStorage, Shape, Kept)> {
        let device = storage_device(storage);
        let (tokens, d) = layout.shape().dims2()?;
        let x = floats(storage, layout)?;
        let table = self.bank.cuda_tables().of(&device, self.bank, self.layer, experts)?;
        let mut launches = Launches::new();
        let sorted = Sorted::new(&mut launches, &device, self.routes, &table, experts)?;
        let d_ff = table.d_ff;
        let hidden = Hidden::new(&device, table.wi_1.is_some(), tokens * d_ff)?;
        let inside = Buffer::<f32>::new(&device, tokens * d_ff)?;
        let y = Buffer(device.alloc_zeros::<f32>((tokens * d).max(1))?);
        let inner = Product {
            a: x,
            a_row: d,
            b_row: d,
            b_k: 1,
            y_row: d_ff,
            n: d_ff,
            k: d,
            flags: Flags { gather: true, ..Flags::default() },
            ..sorted.grouped()
        };
        push_grouped(&mut launches, &table.wi, &Product { y: hidden.pre.address(), ..inner })?;
        if let (Some(wi_1), Some(gate)) = (&table.wi_1, &hidden.gate) {
            push_grouped(&mut launches, wi_1, &Product { y: gate.address(), ..inner })?;
        }
        activate_rows(&mut launches, &self.activated(&sorted, &hidden, d_ff), inside.address()).map_err(kernel)?;
        let outer = Product {
            a: inside.address(),
            a_row: d_ff,
            b_row: d_ff,
            b_k: 1,
            y: y.address(),
            y_row: d,
            row_weight: sorted.weight.address(),
            n: d,
            k: d_ff,
            flags: Flags { scatter: true, ..Flags::default() },
            ..sorted.grouped()
        };
        push_grouped(&mut launches, &table.wo, &outer)?;
        run(&device, &launches).map_err(model_error)?;
        let (storage, shape) = wrap(y, &device, (tokens, d));
        Ok((storage, shape, Kept { sorted, hidden, table }))
    }

    fn activated(&self, sorted: &Sorted, hidden: &Hidden, d_ff: usize) -> Activated {
        let all = hidden.activated(self.act, self.dropout, sorted.tokens, d_ff);
        Activated { order: sorted.order.address(), count: sorted.count(), ..all }
    }

    /// The gradients of the input and of the router's logits; the experts' are added where they learn.
    pub fn backward(&self, kept: &Kept, x: &Tensor, logits: &Tensor, dy: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let Kept { sorted, hidden, table } = kept;
        let device = device_of(dy)?;
        let ((tokens, d), d_ff) = (x.dims2()?, table.d_ff);
        let made = |len: usize| Buffer::<f32>::new(&device, len);
        let zeros = |len: usize| Ok::<_, candle_core::Error>(Buffer(device.alloc_zeros::<f32>(len.max(1))?));
        let (own, own_dy) = (made(tokens * d)?, made(tokens * d)?);
        let (activated, inside) = (made(tokens * d_ff)?, made(tokens * d_ff)?);
        let dgate = made(if hidden.gate.is_some() { tokens * d_ff } else { 0 })?;
        let (dx, dweight, dlogits) = (zeros(tokens * d)?, zeros(tokens)?, zeros(tokens * sorted.experts)?);
        let (order, count, weight) = (sorted.order.address(), sorted.count(), sorted.weight.address());
        let p = self.activated(sorted, hidden, d_ff);
        let (x_at, dy_at) = (address_of(x)?, address_of(dy)?);

        let mut launches = Launches::new();
        activate_rows(&mut launches, &p, activated.address()).map_err(kernel)?;
        // Without the gate first: its gradient is then a product of what is at hand, whatever its value.
        let through = Product {
            a: dy_at,
            a_row: d,
            b_row: 1,
            b_k: d_ff,
            y: inside.address(),
            y_row: d_ff,
            n: d_ff,
            k: d,
            flags: Flags { gather: true, ..Flags::default() },
            ..sorted.grouped()
        };
        push_grouped(&mut launches, &table.wo, &through)?;
        let (a, i) = (activated.address(), inside.address());
        gate_backward(&mut launches, a, weight, order, count, tokens, d_ff, i, dweight.address()).map_err(kernel)?;
        gather_rows(&mut launches, x_at, order, count, 0, tokens, d, own.address()).map_err(kernel)?;
        gather_rows(&mut launches, dy_at, order, count, weight, tokens, d, own_dy.address()).map_err(kernel)?;
        self.add(&mut launches, &device, FeedForwardPart::Wo, (&own_dy, d), (&activated, d_ff))?;
        activate_rows_backward(&mut launches, &p, i, dgate.address()).map_err(kernel)?;
        self.add(&mut launches, &device, FeedForwardPart::Wi, (&inside, d_ff), (&own, d))?;
        let back = Product {
            a: i,
            a_row: d_ff,
            b_row: 1,
            b_k: d,
            y: dx.address(),
            y_row: d,
            n: d,
            k: d_ff,
            flags: Flags { scatter: true, ..Flags::default() },
            ..sorted.grouped()
        };
        push_grouped(&mut launches, &table.wi, &back)?;
        if let Some(wi_1) = &table.wi_1 {
            self.add(&mut launches, &device, FeedForwardPart::Wi1, (&dgate, d_ff), (&own, d))?;
            let flags = Flags { add: true, ..back.flags };
            push_grouped(&mut launches, wi_1, &Product { a: dgate.address(), flags, ..back })?;
        }
        let r = Route { logits: address_of(logits)?, expert: sorted.expert.address(), ..Route::default() };
        route_backward(&mut launches, &r, dweight.address(), dlogits.address(), tokens, sorted.experts)
            .map_err(kernel)?;
        run(&device, &launches).map_err(model_error)?;
        Ok([tensor(dx, x, (tokens, d))?, tensor(dlogits, logits, logits.shape().clone())?])
    }

    /// Adds the gradients of one matrix of each expert that has tokens, from `dy` and `x` of the sorted tokens.
    fn add(
        &self,
        launches: &mut Launches,
        device: &CudaDevice,
        part: FeedForwardPart,
        dy: (&Buffer<f32>, usize),
        x: (&Buffer<f32>, usize),
    ) -> candle_core::Result<()> {
        let (rows, cols) = (dy.1, x.1);
        let mut tokens_of = std::collections::BTreeMap::<usize, usize>::new();
        for expert in self.routes.expert.iter().filter_map(|expert| usize::try_from(*expert).ok()) {
            *tokens_of.entry(expert).or_default() += 1;
        }
        let mut first = 0usize;
        // Where each gradient lies, and its tokens.
        let mut sums: Vec<(Address, std::ops::Range<usize>)> = Vec::new();
        let mut precision = switch_kernels::Precision::default();
        let mut on_host: Option<(Vec<f32>, Vec<f32>)> = None;
        for (expert, count) in tokens_of {
            let weights = self.bank.expert(self.layer, expert).map_err(model_error)?;
            let tokens = first..first + count;
            first += count;
            precision = weights.precision();
            let Some(trainable) = weights.part(part).and_then(Weight::trainable) else { continue };
            if let Some(gradient) = trainable.device_gradient() {
                sums.push((gradient.start(device, rows * cols)?, tokens));
                continue;
            }
            // An adapter's gradient is the host's to compute.
            if on_host.is_none() {
                run(device, &std::mem::take(launches)).map_err(model_error)?;
                on_host = Some((dy.0.on_host()?, x.0.on_host()?));
            }
            let Some((dy, x)) = &on_host else { continue };
            let dy = dy.get(tokens.start * rows..tokens.end * rows).unwrap_or_default();
            let x = x.get(tokens.start * cols..tokens.end * cols).unwrap_or_default();
            trainable.add_linear(precision, dy, x, count, rows, cols).map_err(model_error)?;
        }
        if sums.is_empty() {
            return Ok(());
        }
        let how = arithmetic(WeightType::F32, precision).map_err(model_error)?;
        let (a, b) = (dy.0.address(), x.0.address());
        let one =
            Product { a_row: 1, a_k: rows, b_row: 1, b_k: cols, y_row: cols, m: rows, n: cols, ..Product::default() };
        let push = |launches: &mut Launches, p: &Product| {
            product(launches, how, WeightType::F32, Activation::Identity, p).map_err(kernel)
        };
        // Where only some experts learn there are gaps, and each has a product of its own.
        if sums.windows(2).any(|pair| matches!(pair, [(_, a), (_, b)] if a.end != b.start)) {
            for (y, tokens) in sums {
                let (a, b) = (a + (tokens.start * rows * 4) as u64, b + (tokens.start * cols * 4) as u64);
                let flags = Flags { add: true, ..Flags::default() };
                push(launches, &Product { a, b, y, k: tokens.len(), flags, ..one })?;
            }
            return Ok(());
        }
        let mut offsets = Vec::with_capacity(sums.len() + 1);
        let int = |place: usize| i32::try_from(place).unwrap_or(i32::MAX);
        offsets.extend(sums.first().map(|(_, tokens)| int(tokens.start)));
        offsets.extend(sums.iter().map(|(_, tokens)| int(tokens.end)));
        let addresses: Vec<Address> = sums.iter().map(|(address, _)| *address).collect();
        let (table, offsets) = (Buffer::from_host(device, &addresses)?, Buffer::from_host(device, &offsets)?);
        let flags = Flags { ragged_k: true, add: true, ..Flags::default() };
        let (y_table, offset_table, groups) = (table.address(), offsets.address(), sums.len());
        push(launches, &Product { a, b, y_table, offsets: offset_table, groups, k: first, flags, ..one })?;
        // The tables live until the launches that read them are enqueued.
        run(device, &std::mem::take(launches)).map_err(model_error)
    }
}
