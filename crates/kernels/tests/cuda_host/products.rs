use half::{bf16, f16};
use switch_kernels::cuda::{
    most_tiles, permute, product, Arithmetic, Flags, Permutation, Product, WeightType, PERMUTE_CHUNK,
};
use switch_kernels::{reference, Activation, ExpertWeights, Matrix, Routes, Values};

use crate::host::{at, each_order, out};
use crate::support::{assert_close, Random};

/// Weights as stored, and as the numbers they stand for.
struct Stored {
    kind: WeightType,
    f32s: Vec<f32>,
    halves: Vec<u16>,
    bytes: Vec<u8>,
    scales: Vec<f32>,
}

impl Stored {
    fn new(random: &mut Random, kind: WeightType, rows: usize, cols: usize) -> Self {
        let values = random.vec(rows * cols);
        let mut stored = Self { kind, f32s: values, halves: Vec::new(), bytes: Vec::new(), scales: Vec::new() };
        match kind {
            WeightType::F32 => {}
            WeightType::F16 => {
                stored.halves = stored.f32s.iter().map(|v| f16::from_f32(*v).to_bits()).collect();
                stored.f32s = stored.halves.iter().map(|b| f16::from_bits(*b).to_f32()).collect();
            }
            WeightType::Bf16 => {
                stored.halves = stored.f32s.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
                stored.f32s = stored.halves.iter().map(|b| bf16::from_bits(*b).to_f32()).collect();
            }
            WeightType::Int8 { block } => {
                let blocks = cols.div_ceil(block);
                stored.scales = (0..rows * blocks).map(|_| 0.01 + random.unit().abs() / 100.0).collect();
                stored.bytes = (0..rows * cols).map(|_| random.bits() as u8).collect();
                for i in 0..rows * cols {
                    let scale = stored.scales[i / cols * blocks + i % cols / block];
                    stored.f32s[i] = f32::from(stored.bytes[i] as i8) * scale;
                }
            }
            WeightType::Int4 { block } => {
                let blocks = cols.div_ceil(block);
                stored.scales = (0..rows * blocks).map(|_| 0.1 + random.unit().abs() / 10.0).collect();
                stored.bytes = (0..rows * cols / 2).map(|_| random.bits() as u8).collect();
                let values = Values::I4 { values: &stored.bytes, scales: &stored.scales, group: block };
                values.widen(0, &mut stored.f32s);
            }
        }
        stored
    }

    fn address(&self) -> u64 {
        match self.kind {
            WeightType::F32 => at(&self.f32s),
            WeightType::F16 | WeightType::Bf16 => at(&self.halves),
            WeightType::Int8 { .. } | WeightType::Int4 { .. } => at(&self.bytes),
        }
    }

    fn matrix(&self, rows: usize, cols: usize) -> Matrix<'_> {
        Matrix::new(Values::F32(&self.f32s), rows, cols).unwrap()
    }
}

/// As the tensor cores round an operand.
fn rounded(values: &[f32], arithmetic: Arithmetic, kind: WeightType) -> Vec<f32> {
    let round = |v: &f32| match (arithmetic, kind) {
        (Arithmetic::Half, WeightType::F16) => f16::from_f32(*v).to_f32(),
        (Arithmetic::Half, _) => bf16::from_f32(*v).to_f32(),
        (Arithmetic::Tf32, WeightType::F32) => f32::from_bits((v.to_bits() + 0x1000) & 0xffff_e000),
        _ => *v,
    };
    values.iter().map(round).collect()
}

const KINDS: [WeightType; 5] = [
    WeightType::F32,
    WeightType::F16,
    WeightType::Bf16,
    WeightType::Int8 { block: 32 },
    WeightType::Int4 { block: 32 },
];

fn linear_case(arithmetic: Arithmetic, kind: WeightType, m: usize, n: usize, k: usize) {
    // Rows of int4 are whole blocks.
    let k = if matches!(kind, WeightType::Int4 { .. }) { k.next_multiple_of(32) } else { k };
    let mut random = Random((m * 1000 + n * 10 + k) as u64);
    let (x, w) = (random.vec(m * k), Stored::new(&mut random, kind, n, k));
    let found = each_order(
        || vec![f32::NAN; m * n],
        |launches, y| {
            let p = Product {
                a: at(&x),
                a_row: k,
                a_k: 1,
                b: w.address(),
                b_row: k,
                b_k: 1,
                scales: at(&w.scales),
                y: out(y),
                y_row: n,
                m,
                n,
                k,
                ..Product::default()
            };
            product(launches, arithmetic, kind, Activation::Identity, &p).unwrap();
        },
        |y| y,
    );
    let tensor_cores = m >= 17;
    let of = if tensor_cores { arithmetic } else { Arithmetic::Float32 };
    let (x, weights) = (rounded(&x, of, kind), rounded(&w.f32s, of, kind));
    let expected = reference::linear(&x, m, Matrix::new(Values::F32(&weights), n, k).unwrap());
    assert_close(&found, &expected, 1e-6, &format!("{arithmetic:?} {kind:?} {m} x {n} x {k}"));
}

#[test]
fn products_of_every_type_and_size() {
    for kind in KINDS {
        for (m, n, k) in [(1, 5, 64), (3, 9, 33), (8, 17, 260), (13, 8, 7), (17, 65, 40), (70, 130, 75), (66, 1, 1)] {
            linear_case(Arithmetic::Float32, kind, m, n, k);
        }
        for (m, n, k) in [(17, 8, 16), (150, 140, 70), (129, 33, 96)] {
            linear_case(Arithmetic::Half, kind, m, n, k);
        }
    }
    for (m, n, k) in [(20, 12, 8), (150, 140, 37)] {
        linear_case(Arithmetic::Tf32, WeightType::F32, m, n, k);
    }
}

/// Against exact products of the stored numbers: sums of two halves are as good as float32 here.
#[test]
fn split_inputs_keep_their_significand() {
    for (kind, tolerance) in [(WeightType::Bf16, 5e-6), (WeightType::F16, 1e-6), (WeightType::F32, 1e-6)] {
        for (m, n, k) in [(3, 9, 33), (17, 8, 16), (150, 140, 70), (129, 33, 96)] {
            let mut random = Random((m * 1000 + n * 10 + k) as u64);
            let (x, w) = (random.vec(m * k), Stored::new(&mut random, kind, n, k));
            let found = each_order(
                || vec![f32::NAN; m * n],
                |launches, y| {
                    let p =
                        Product { a: at(&x), a_row: k, a_k: 1, b: w.address(), b_row: k, b_k: 1, ..Product::default() };
                    let p = Product { y: out(y), y_row: n, m, n, k, ..p };
                    product(launches, Arithmetic::Split, kind, Activation::Identity, &p).unwrap();
                },
                |y| y,
            );
            let expected = reference::linear(&x, m, w.matrix(n, k));
            assert_close(&found, &expected, tolerance, &format!("split {kind:?} {m} x {n} x {k}"));
        }
    }
    // What is not finite stays so.
    let (x, w) = ([f32::INFINITY, f32::NAN, 1.0].repeat(6), [bf16::from_f32(2.0).to_bits()]);
    let found = each_order(
        || vec![0f32; 18],
        |launches, y| {
            let p = Product { a: at(&x), a_row: 1, a_k: 1, b: at(&w), b_row: 1, b_k: 1, ..Product::default() };
            let p = Product { y: out(y), y_row: 1, m: 18, n: 1, k: 1, ..p };
            product(launches, Arithmetic::Split, WeightType::Bf16, Activation::Identity, &p).unwrap();
        },
        |y| y.iter().map(|y| if y.is_nan() { -1.0 } else { *y }).collect(),
    );
    assert_eq!(found[..3], [f32::INFINITY, -1.0, 2.0]);
}

#[test]
fn float16_inputs_past_its_range_are_held() {
    let (x, w) = (vec![1e6f32; 32], [f16::from_f32(0.5).to_bits()]);
    let found = each_order(
        || vec![0f32; 32],
        |launches, y| {
            let p = Product { a: at(&x), a_row: 1, a_k: 1, b: at(&w), b_row: 1, b_k: 1, ..Product::default() };
            let p = Product { y: out(y), y_row: 1, m: 32, n: 1, k: 1, ..p };
            product(launches, Arithmetic::Half, WeightType::F16, Activation::Identity, &p).unwrap();
        },
        |y| y,
    );
    assert!(found.iter().all(|y| *y == 32752.0));
}

/// A feed-forward layer over routed tokens, as a model runs it.
fn experts_case(arithmetic: Arithmetic, kind: WeightType, tokens: usize, experts: usize, act: Activation, gated: bool) {
    let (d, d_ff) = if matches!(kind, WeightType::Int4 { .. }) { (32, 64) } else { (24, 36) };
    let mut random = Random((tokens * 7 + experts) as u64);
    let x = random.vec(tokens * d);
    let mut bank = |rows, cols| (0..experts).map(|_| Stored::new(&mut random, kind, rows, cols)).collect::<Vec<_>>();
    let (wi, wi_1, wo) = (bank(d_ff, d), bank(d_ff, d), bank(d, d_ff));
    let tables = [&wi, &wi_1, &wo].map(|of| of.iter().map(Stored::address).collect::<Vec<_>>());
    let scales = [&wi, &wi_1, &wo].map(|of| of.iter().map(|w| at(&w.scales)).collect::<Vec<_>>());
    // Expert 1 gets nothing, the last one most.
    let expert: Vec<i32> = (0..tokens)
        .map(|_| match random.below(experts + 4) {
            0 => -1,
            1 => 0,
            e if e >= experts => experts as i32 - 1,
            e => e as i32,
        })
        .collect();
    let routes = Routes { slot: vec![0; tokens], weight: random.vec(tokens), expert };
    let chunks = tokens.div_ceil(PERMUTE_CHUNK);
    let tiles = most_tiles(arithmetic, kind, tokens, experts);
    struct Buffers {
        counts: Vec<i32>,
        offsets: Vec<i32>,
        order: Vec<i32>,
        tiles: Vec<i32>,
        hidden: Vec<f32>,
        y: Vec<f32>,
    }
    let found = each_order(
        || Buffers {
            counts: vec![-7; chunks * experts],
            offsets: vec![-7; experts + 1],
            order: vec![-7; tokens],
            tiles: vec![-7; tiles * 3],
            hidden: vec![f32::NAN; tokens * d_ff],
            y: vec![0.0; tokens * d],
        },
        |launches, b| {
            let list = Permutation {
                expert: at(&routes.expert),
                counts: out(&mut b.counts),
                offsets: out(&mut b.offsets),
                order: out(&mut b.order),
                tiles: out(&mut b.tiles),
            };
            permute(launches, arithmetic, kind, &list, tokens, experts).unwrap();
            let grouped =
                Product { order: list.order, tiles: list.tiles, tile_count: tiles, m: tokens, ..Product::default() };
            let inner = |index: usize, flags| Product {
                a: at(&x),
                a_row: d,
                a_k: 1,
                b_table: at(&tables[index]),
                b_row: d,
                b_k: 1,
                scale_table: at(&scales[index]),
                y_row: d_ff,
                n: d_ff,
                k: d,
                flags,
                ..grouped
            };
            let gather = Flags { gather: true, ..Flags::default() };
            let hidden = out(&mut b.hidden);
            product(launches, arithmetic, kind, act, &Product { y: hidden, ..inner(0, gather) }).unwrap();
            if gated {
                let flags = Flags { multiply: true, ..gather };
                let gate = Product { y: hidden, ..inner(1, flags) };
                product(launches, arithmetic, kind, Activation::Identity, &gate).unwrap();
            }
            let outer = Product {
                a: hidden,
                a_row: d_ff,
                a_k: 1,
                b_table: at(&tables[2]),
                b_row: d_ff,
                b_k: 1,
                scale_table: at(&scales[2]),
                y: out(&mut b.y),
                y_row: d,
                row_weight: at(&routes.weight),
                n: d,
                k: d_ff,
                flags: Flags { scatter: true, ..Flags::default() },
                ..grouped
            };
            product(launches, arithmetic, kind, Activation::Identity, &outer).unwrap();
        },
        |b| b.y,
    );
    let weights: Vec<ExpertWeights<'_>> = (0..experts)
        .map(|e| ExpertWeights {
            wi: wi[e].matrix(d_ff, d),
            wi_1: gated.then(|| wi_1[e].matrix(d_ff, d)),
            wo: wo[e].matrix(d, d_ff),
        })
        .collect();
    let expected = reference::experts(&x, d, &routes, act, &weights);
    let tolerance = if arithmetic == Arithmetic::Half && tokens >= 17 { 1e-2 } else { 1e-6 };
    assert_close(
        &found,
        &expected,
        tolerance,
        &format!("experts {arithmetic:?} {kind:?} {tokens} of {experts} {act:?}"),
    );
}

#[test]
fn experts_take_their_tokens_without_padding() {
    for kind in KINDS {
        experts_case(Arithmetic::Float32, kind, 90, 5, Activation::Relu, false);
        experts_case(Arithmetic::Float32, kind, 3, 9, Activation::GeluTanh, true);
        experts_case(Arithmetic::Half, kind, 300, 6, Activation::Silu, true);
    }
    experts_case(Arithmetic::Tf32, WeightType::F16, 520, 33, Activation::Relu, false);
    experts_case(Arithmetic::Float32, WeightType::F32, 700, 70, Activation::Gelu, true);
    experts_case(Arithmetic::Float32, WeightType::F32, 1, 300, Activation::Relu, false);
}
