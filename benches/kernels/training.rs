//! Training's kernels on the shapes of base-8 (8 × 128 tokens) and of the g2p model (256 × 15 tokens).

use crate::clock;
use crate::products::{check, check_to, numbers};
use switch_kernels::training::{
    adafactor_step, adamw_step, attention_backward, attention_train, dropout, linear_backward_input,
    linear_backward_weight, reference, rms_norm_backward, sum_of_squares, token_loss, Adafactor, AdafactorState, AdamW,
    Dropout, TokenLossOptions,
};
use switch_kernels::{AttentionRow, Matrix, Precision, RelativeBias, Values};

pub fn run(wanted: &dyn Fn(&str) -> bool) {
    for (n, rows, cols) in [(1024, 768, 768), (1024, 3072, 768), (1024, 768, 3072), (128, 3072, 768), (256, 32128, 768)]
        .into_iter()
        .chain([(3840, 128, 128), (3840, 512, 128), (3840, 128, 512), (480, 512, 128)])
    {
        let name = format!("linear backward {n} of {rows}x{cols}");
        if wanted(&name) {
            linear(&name, n, rows, cols);
        }
    }
    for (rows, len, heads, head_dim) in [(8, 128, 12, 64), (256, 15, 4, 32)] {
        for rate in [0.0, 0.1] {
            let name = format!("attention backward {rows} x {len}, dropout {rate}");
            if wanted(&name) {
                attention(&name, rows, len, heads, head_dim, rate);
            }
        }
    }
    for (tokens, vocab) in [(256, 32128), (3840, 60)] {
        let name = format!("token loss {tokens} of {vocab}");
        if wanted(&name) {
            loss(&name, tokens, vocab);
        }
    }
    if wanted("training pointwise") {
        pointwise();
    }
}

fn linear(name: &str, n: usize, rows: usize, cols: usize) {
    let (dy, x, w) = (numbers(n * rows), numbers(n * cols), numbers(rows * cols));
    let matrix = Matrix::new(Values::F32(&w), rows, cols).expect("shape");
    let gflop = 2e-9 * (n * rows * cols) as f64;
    // How far from exact each precision may be (crates/kernels/src/precision.rs).
    let precisions =
        [("", Precision::Float32, 2e-6), (" high", Precision::High, 1e-5), (" rounded", Precision::Bfloat16, 1e-2)];
    for (label, precision, tolerance) in precisions {
        let mut dx = vec![0.0; n * cols];
        let mut input = || linear_backward_input(precision, &dy, n, matrix, &mut dx).expect("shapes");
        input();
        let time = clock::best(input);
        let wide = reference::widen;
        let expected = reference::linear_backward_input(&wide(&dy[..rows]), &wide(&w), 1, rows, cols);
        check_to(name, &dx[..cols], &reference::narrow(&expected), tolerance);
        println!("{:44} {:8.1} GFLOP/s  {:9.1} us", format!("{name}, input{label}"), gflop / time, time * 1e6);
        let mut dw = vec![0.0; rows * cols];
        let mut weight = || linear_backward_weight(precision, &dy, &x, n, rows, cols, 1.0, &mut dw).expect("shapes");
        weight();
        let time = clock::best(weight);
        println!("{:44} {:8.1} GFLOP/s  {:9.1} us", format!("{name}, weight{label}"), gflop / time, time * 1e6);
    }
}

fn attention(name: &str, batch: usize, len: usize, heads: usize, head_dim: usize, rate: f32) {
    let width = heads * head_dim;
    let q: Vec<f32> = numbers(len * width).iter().map(|x| x / 8.0).collect();
    let (k, v, dout) = (numbers(len * width), numbers(len * width), numbers(len * width));
    let span = 2 * len;
    let values = numbers(heads * span);
    let bias = RelativeBias { values: &values, span, zero: len, q_start: 0 };
    let row = AttentionRow {
        q: &q,
        k: &k,
        v: &v,
        q_len: len,
        kv_len: len,
        mask: None,
        causal_offset: None,
        bias: Some(bias),
    };
    let rows = vec![row; batch];
    let dropout = Dropout { rate, seed: 1 };
    let buffers = |size: usize| vec![vec![0.0f32; size]; batch];
    let (mut out, mut lse) = (buffers(len * width), buffers(heads * len));
    let mut forward = || {
        let mut out: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let mut lse: Vec<&mut [f32]> = lse.iter_mut().map(Vec::as_mut_slice).collect();
        attention_train(&rows, heads, head_dim, &dropout, &mut out, &mut lse).expect("shapes");
    };
    let forward_time = clock::best(&mut forward);
    let out: Vec<&[f32]> = out.iter().map(Vec::as_slice).collect();
    let lse: Vec<&[f32]> = lse.iter().map(Vec::as_slice).collect();
    let douts = vec![&dout[..]; batch];
    let (mut dq, mut dk, mut dv) = (buffers(len * width), buffers(len * width), buffers(len * width));
    let mut dbias = vec![0.0; heads * span];
    let time = clock::best(|| {
        let mut dq: Vec<&mut [f32]> = dq.iter_mut().map(Vec::as_mut_slice).collect();
        let mut dk: Vec<&mut [f32]> = dk.iter_mut().map(Vec::as_mut_slice).collect();
        let mut dv: Vec<&mut [f32]> = dv.iter_mut().map(Vec::as_mut_slice).collect();
        let dbias = Some(&mut dbias[..]);
        attention_backward(&rows, heads, head_dim, &dropout, &out, &lse, &douts, &mut dq, &mut dk, &mut dv, dbias)
            .expect("shapes");
    });
    let slow = reference::Attention::of(&row).backward(&row, heads, head_dim, &dropout, 0, &reference::widen(&dout));
    check(name, &dk[0], &reference::narrow(&slow.k));
    let gflop = 2e-9 * (batch * len * len * width) as f64;
    println!("{name:44} {:8.1} GFLOP/s  {:9.1} us", 5.0 * gflop / time, time * 1e6);
    let name = name.replace("backward", "forward");
    println!("{name:44} {:8.1} GFLOP/s  {:9.1} us", 2.0 * gflop / forward_time, forward_time * 1e6);
}

fn loss(name: &str, tokens: usize, vocab: usize) {
    let (logits, labels) = (numbers(tokens * vocab), vec![3; tokens]);
    let options = TokenLossOptions { z_loss: 1e-4, ..TokenLossOptions::default() };
    let mut buffer = logits.clone();
    let time = clock::best(|| {
        token_loss(&mut buffer, vocab, &labels, None, &options, Some(1.0)).expect("shapes");
    });
    rate(name, tokens * vocab, time);
}

fn rate(name: &str, elements: usize, time: f64) {
    println!("{name:44} {:8.2} elements/ns  {:9.1} us", 1e-9 * elements as f64 / time, time * 1e6);
}

fn pointwise() {
    let (n, d) = (1024, 768);
    let (x, dy, weight) = (numbers(n * d), numbers(n * d), numbers(d));
    let (mut dx, mut dweight) = (vec![0.0; n * d], vec![0.0; d]);
    let time =
        clock::best(|| rms_norm_backward(&x, d, &weight, 1e-6, &dy, &mut dx, Some(&mut dweight)).expect("shapes"));
    rate("training pointwise rms_norm_backward", n * d, time);
    let d = Dropout { rate: 0.1, seed: 1 };
    let time = clock::best(|| dropout(&d, &x, &mut dx));
    rate("training pointwise dropout", x.len(), time);
    let (rows, cols) = (3072, 768);
    let (mut p, g) = (numbers(rows * cols), numbers(rows * cols));
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    let adamw = AdamW {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 1,
        gradient_scale: 1.0,
    };
    let time = clock::best(|| adamw_step(&mut p, &g, &mut m, &mut v, &adamw).expect("shapes"));
    rate("training pointwise adamw 3072x768", p.len(), time);
    let (mut state, options) = (AdafactorState::default(), Adafactor::default());
    let time = clock::best(|| adafactor_step(&mut p, rows, cols, true, &g, &mut state, &options).expect("shapes"));
    rate("training pointwise adafactor 3072x768", p.len(), time);
    let time = clock::best(|| {
        std::hint::black_box(sum_of_squares(&p));
    });
    rate("training pointwise sum of squares", p.len(), time);
}
