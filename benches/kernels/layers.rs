//! Attention, experts and pointwise work of base-8 (12 heads of 64, d_model 768, d_ff 2048).

use crate::clock;
use crate::products::{check, numbers};
use switch_kernels::{
    activate, attention, experts, parallel, reference, rms_norm, Activation, AttentionRow, ExpertWeights, Matrix,
    RelativeBias, Routes, Values,
};

const D: usize = 768;
const D_FF: usize = 2048;
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;

pub fn run(wanted: &dyn Fn(&str) -> bool) {
    for (batch, q_len, kv_len) in [(1, 512, 512), (8, 128, 128), (1, 1, 64), (8, 1, 64), (1, 1, 512)] {
        let name = format!("attention {batch} x {q_len} queries, {kv_len} keys");
        if wanted(&name) {
            attend(&name, batch, q_len, kv_len);
        }
    }
    for (tokens, count) in [(1, 8), (8, 8), (8, 256), (512, 8), (4096, 8), (4096, 256)] {
        for store in ["f32", "bf16"] {
            let name = format!("experts {store} {tokens} tokens over {count}");
            if wanted(&name) {
                feed(&name, tokens, count, store == "bf16");
            }
        }
    }
    if wanted("region") {
        regions();
    }
    if wanted("pointwise") {
        pointwise();
    }
}

/// What handing work to the threads costs: a task per thread that does nothing, back to back and after a pause.
fn regions() {
    let region = || {
        parallel::for_each_task(parallel::threads(), |index| {
            std::hint::black_box(index);
        })
    };
    println!("region of empty tasks, back to back {:20.2} us", clock::best(region) * 1e6);
    let mut after_pause = Vec::new();
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(2));
        let start = std::time::Instant::now();
        region();
        after_pause.push(start.elapsed().as_secs_f64());
    }
    after_pause.sort_by(f64::total_cmp);
    println!("region of empty tasks, after a pause {:19.2} us (median)", after_pause[25] * 1e6);
}

fn attend(name: &str, batch: usize, q_len: usize, kv_len: usize) {
    let width = HEADS * HEAD_DIM;
    let q: Vec<f32> = numbers(q_len * width).iter().map(|x| x / 8.0).collect();
    let (k, v) = (numbers(kv_len * width), numbers(kv_len * width));
    let span = q_len + kv_len;
    let values = numbers(HEADS * span);
    let bias = RelativeBias { values: &values, span, zero: q_len, q_start: 0 };
    let row = AttentionRow { q: &q, k: &k, v: &v, q_len, kv_len, mask: None, causal_offset: None, bias: Some(bias) };
    let rows = vec![row; batch];
    let mut outs = vec![vec![0.0; q_len * width]; batch];
    let mut run = || {
        let mut parts: Vec<&mut [f32]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
        attention(&rows, HEADS, HEAD_DIM, &mut parts).expect("shapes");
    };
    run();
    let time = clock::best(&mut run);
    check(name, &outs[0], &reference::attention(&row, HEADS, HEAD_DIM));
    let flops = 4e-9 * (batch * q_len * kv_len * width) as f64;
    println!("{name:44} {:8.1} GFLOP/s  {:9.1} us", flops / time, time * 1e6);
}

fn feed(name: &str, tokens: usize, count: usize, narrow: bool) {
    // Few matrices stand for many: each expert starts at its own place in them.
    let spread = 64 * D;
    let wide = numbers(D * D_FF + spread);
    let bf16: Vec<u16> = wide.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
    let matrix = |index: usize, rows, cols| {
        let start = index % 64 * D;
        let range = start..start + D * D_FF;
        let values = if narrow { Values::Bf16(&bf16[range]) } else { Values::F32(&wide[range]) };
        Matrix::new(values, rows, cols).expect("shape")
    };
    let expert = |index: usize| ExpertWeights { wi: matrix(index, D_FF, D), wi_1: None, wo: matrix(index, D, D_FF) };
    let x = numbers(tokens * D);
    let routes = Routes {
        expert: (0..tokens).map(|t| (t * 7919 % count) as i32).collect(),
        slot: vec![0; tokens],
        weight: vec![0.5; tokens],
    };
    let mut out = vec![0.0; tokens * D];
    let mut run = || {
        experts(&x, tokens, D, &routes, Activation::Relu, &|index| Ok(expert(index)), &mut out).expect("shapes");
    };
    run();
    let time = clock::best(&mut run);
    let first = Routes { expert: routes.expert[..1].to_vec(), slot: vec![0], weight: vec![0.5] };
    let weights: Vec<_> = (0..count).map(expert).collect();
    check(name, &out[..D], &reference::experts(&x[..D], D, &first, Activation::Relu, &weights));
    let flops = 4e-9 * (tokens * D * D_FF) as f64;
    let bytes = 2e-9 * (tokens.min(count) * D * D_FF * if narrow { 2 } else { 4 }) as f64;
    println!("{name:44} {:8.1} GFLOP/s  {:9.1} us  {:6.1} GB/s of weights", flops / time, time * 1e6, bytes / time);
}

fn pointwise() {
    let x = numbers(512 * D_FF);
    let mut out = vec![0.0; x.len()];
    let rate = |name: &str, elements: usize, time: f64| {
        println!("{name:44} {:8.2} elements/ns  {:9.1} us", 1e-9 * elements as f64 / time, time * 1e6);
    };
    let weight = numbers(D);
    rms_norm(&x[..512 * D], D, &weight, 1e-6, &mut out[..512 * D]).expect("shapes");
    check("rms_norm", &out[..512 * D], &reference::rms_norm(&x[..512 * D], D, &weight, 1e-6));
    let time = clock::best(|| rms_norm(&x[..512 * D], D, &weight, 1e-6, &mut out[..512 * D]).expect("shapes"));
    rate("rms_norm 512x768", 512 * D, time);
    for (name, act) in [
        ("relu", Activation::Relu),
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluTanh),
        ("silu", Activation::Silu),
    ] {
        out.copy_from_slice(&x);
        activate(act, &mut out);
        let expected: Vec<f32> = x.iter().take(4096).map(|&x| reference::activation(act, x)).collect();
        check(name, &out[..4096], &expected);
        let time = clock::best(|| activate(act, &mut out));
        rate(&format!("{name} 512x2048"), x.len(), time);
    }
}
