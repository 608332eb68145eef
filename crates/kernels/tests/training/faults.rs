//! Wrong lengths are refused before anything is written.

use switch_kernels::training::*;
use switch_kernels::{Activation, AttentionRow, ExpertWeights, KernelError, Matrix, Precision, Routes, Values};

const F32: Precision = Precision::Float32;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, KernelError>) {
    let error = result.unwrap_err();
    assert!(["INVALID_INPUT", "OUT_OF_MEMORY"].contains(&error.code()), "{error}");
}

#[test]
fn of_linear_layers() {
    let w = Matrix::new(Values::F32(&[0.0; 6]), 3, 2).unwrap();
    let mut dx = [7.0; 4];
    refused(linear_backward_input(F32, &[0.0; 5], 2, w, &mut dx));
    refused(linear_backward_input(F32, &[0.0; 6], 2, w, &mut dx[..3]));
    refused(linear_backward_input(F32, &[0.0; 6], usize::MAX, w, &mut dx));
    let broken = Matrix { rows: 4, ..w };
    refused(linear_backward_input(F32, &[0.0; 8], 2, broken, &mut dx));
    assert_eq!(dx, [7.0; 4]);
    let mut dw = [7.0; 6];
    refused(linear_backward_weight(F32, &[0.0; 5], &[0.0; 4], 2, 3, 2, 1.0, &mut dw));
    refused(linear_backward_weight(F32, &[0.0; 6], &[0.0; 5], 2, 3, 2, 1.0, &mut dw));
    refused(linear_backward_weight(F32, &[0.0; 6], &[0.0; 4], 2, 3, 2, 1.0, &mut dw[..5]));
    refused(linear_backward_weight(F32, &[], &[], 0, usize::MAX, usize::MAX, 1.0, &mut dw));
    assert_eq!(dw, [7.0; 6]);
}

#[test]
fn of_norms_embeddings_and_routes() {
    let mut dx = [7.0; 4];
    refused(rms_norm_backward(&[0.0; 4], 0, &[], 1e-6, &[0.0; 4], &mut dx, None));
    refused(rms_norm_backward(&[0.0; 3], 2, &[1.0; 2], 1e-6, &[0.0; 3], &mut dx[..3], None));
    refused(rms_norm_backward(&[0.0; 4], 2, &[1.0; 3], 1e-6, &[0.0; 4], &mut dx, None));
    refused(rms_norm_backward(&[0.0; 4], 2, &[1.0; 2], 1e-6, &[0.0; 2], &mut dx, None));
    refused(rms_norm_backward(&[0.0; 4], 2, &[1.0; 2], 1e-6, &[0.0; 4], &mut dx, Some(&mut [0.0])));
    let mut table = [7.0; 4];
    refused(embedding_backward(&[0.0; 2], &[2], 2, &mut table));
    refused(embedding_backward(&[0.0; 3], &[1], 2, &mut table));
    refused(embedding_backward(&[0.0; 3], &[1], 3, &mut table));
    refused(embedding_backward(&[], &[], 0, &mut table));
    let routes = |expert: Vec<i32>| Routes { slot: vec![0; expert.len()], weight: vec![0.0; expert.len()], expert };
    let mut dlogits = [7.0; 4];
    refused(route_backward(&[0.0; 4], 0, &routes(vec![0, 1]), &[0.0; 2], &mut dlogits));
    refused(route_backward(&[0.0; 4], 2, &routes(vec![0, 2]), &[0.0; 2], &mut dlogits));
    refused(route_backward(&[0.0; 4], 2, &routes(vec![0, -2]), &[0.0; 2], &mut dlogits));
    refused(route_backward(&[0.0; 4], 2, &routes(vec![0]), &[0.0; 1], &mut dlogits));
    refused(route_backward(&[0.0; 4], 2, &routes(vec![0, 1]), &[0.0; 1], &mut dlogits));
    assert_eq!((dx, table, dlogits), ([7.0; 4], [7.0; 4], [7.0; 4]));
}

#[test]
fn of_feed_forward_layers_and_experts() {
    let (wi, wo) = ([0.0; 6], [0.0; 6]);
    let weights = ExpertWeights {
        wi: Matrix::new(Values::F32(&wi), 3, 2).unwrap(),
        wi_1: None,
        wo: Matrix::new(Values::F32(&wo), 2, 3).unwrap(),
    };
    let (act, none) = (Activation::Relu, Dropout::NONE);
    let mut hidden = vec![0.0; 6];
    let mut sink = |_, _: &[f32], _: &[f32], _| Ok(());
    refused(feed_forward_train(F32, &[0.0; 3], 2, 2, &weights, act, &none, &mut hidden, &mut [0.0; 4]));
    refused(feed_forward_train(F32, &[0.0; 4], 2, 2, &weights, act, &none, &mut hidden, &mut [0.0; 3]));
    refused(feed_forward_train(F32, &[], 0, 3, &weights, act, &none, &mut hidden, &mut []));
    let dx = &mut [7.0; 4];
    for (x, hidden, dy) in [(3, 6, 4), (4, 5, 4), (4, 6, 3)] {
        let (x, hidden, dy) = (vec![0.0; x], vec![0.0; hidden], vec![0.0; dy]);
        refused(feed_forward_backward(F32, &x, 2, 2, &weights, act, &none, &hidden, &dy, Some(dx), &mut sink));
    }
    let bank = |_: usize| Ok(weights);
    let sink = |_: usize, _, _: &[f32], _: &[f32], _| Ok(());
    let routes = |expert: Vec<i32>| Routes { slot: vec![0; expert.len()], weight: vec![0.0; expert.len()], expert };
    for expert in [vec![0], vec![0, -2]] {
        let routes = routes(expert);
        refused(experts_train(F32, &[0.0; 4], 2, 2, &routes, act, &none, &bank, &mut Vec::new(), &mut [0.0; 4]));
    }
    let routes = routes(vec![0, 1]);
    for (hidden, dy, dgate) in [(5, 4, 2), (6, 3, 2), (6, 4, 1)] {
        let (hidden, dy, mut dgate) = (vec![0.0; hidden], vec![0.0; dy], vec![0.0; dgate]);
        let (x, dgate) = ([0.0; 4], &mut dgate);
        refused(experts_backward(F32, &x, 2, 2, &routes, act, &none, &bank, &hidden, &dy, dx, dgate, &sink));
    }
    assert_eq!(*dx, [7.0; 4]);
}

#[test]
fn of_attention() {
    let x = [0.0; 4];
    let row = AttentionRow { q: &x, k: &x, v: &x, q_len: 2, kv_len: 2, mask: None, causal_offset: None, bias: None };
    let (mut a, mut b) = ([7.0; 4], [7.0; 4]);
    refused(attention_train(&[row], 1, 2, &Dropout::NONE, &mut [&mut a], &mut [&mut b]));
    refused(attention_train(&[row], 1, 2, &Dropout::NONE, &mut [&mut a], &mut []));
    refused(attention_train(&[row], 1, 2, &Dropout::NONE, &mut [&mut a[..3]], &mut [&mut b[..2]]));
    refused(attention_train(&[row], usize::MAX, 2, &Dropout::NONE, &mut [&mut a], &mut [&mut b]));
    let fault = AttentionRow { q_len: usize::MAX, ..row };
    refused(attention_train(&[fault], 1, 2, &Dropout::NONE, &mut [&mut a], &mut [&mut b]));
    for wrong in 0..6 {
        let len = |which: usize, right: usize| if which == wrong { right - 1 } else { right };
        let (mut dq, mut dk, mut dv) = (vec![7.0; len(0, 4)], vec![7.0; len(1, 4)], vec![7.0; len(2, 4)]);
        let (out, lse, dout) = (vec![0.0; len(3, 4)], vec![0.0; len(4, 2)], vec![0.0; len(5, 4)]);
        let (out, lse, dout) = ([&out[..]], [&lse[..]], [&dout[..]]);
        let to = (&mut [&mut dq[..]], &mut [&mut dk[..]], &mut [&mut dv[..]]);
        refused(attention_backward(&[row], 1, 2, &Dropout::NONE, &out, &lse, &dout, to.0, to.1, to.2, None));
    }
    assert_eq!((a, b), ([7.0; 4], [7.0; 4]));
}

#[test]
fn of_losses_and_optimisers() {
    let plain = TokenLossOptions::default();
    let mut logits = [7.0; 4];
    refused(token_loss(&mut logits, 0, &[], None, &plain, None));
    refused(token_loss(&mut logits, 2, &[0], None, &plain, Some(1.0)));
    refused(token_loss(&mut logits, 2, &[0, 1], Some(&[0.0; 3]), &plain, Some(1.0)));
    let adamw = AdamW {
        learning_rate: 1.0,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        gradient_scale: 1.0,
    };
    refused(adamw_step(&mut logits, &[1.0; 3], &mut [0.0; 4], &mut [0.0; 4], &adamw));
    refused(adamw_step(&mut logits, &[1.0; 4], &mut [0.0; 3], &mut [0.0; 4], &adamw));
    refused(adamw_step(&mut logits, &[1.0; 4], &mut [0.0; 4], &mut [0.0; 5], &adamw));
    let adafactor = Adafactor::default();
    let state = &mut AdafactorState::default();
    refused(adafactor_step(&mut logits, 2, 3, true, &[1.0; 4], state, &adafactor));
    refused(adafactor_step(&mut logits, 2, 2, true, &[1.0; 3], state, &adafactor));
    refused(adafactor_step(&mut logits, usize::MAX, 2, true, &[1.0; 4], state, &adafactor));
    let mut other = AdafactorState { row: vec![0.0; 3], ..AdafactorState::default() };
    refused(adafactor_step(&mut logits, 2, 2, true, &[1.0; 4], &mut other, &adafactor));
    assert_eq!(logits, [7.0; 4]);
}
