//! The boundary as a host sees it: JSON and tensors in and out.

use serde_json::{json, Value};
use switch_engine::{call, set_host, Dtype, Failure, Host, Reply, Tensor, OPERATIONS};

fn host() {
    // A host of little memory, so that what asks for more is refused.
    set_host(Host { backend: "native", now_ms: || 0.0, threads: 1, available_memory: || Some(16 << 20) });
}

fn run(operation: &str, request: Value, tensors: Vec<Tensor>) -> Result<(Value, Vec<Tensor>), Failure> {
    host();
    let Reply { json, tensors } = call(operation, &request.to_string(), tensors, Vec::new())?;
    Ok((serde_json::from_str(&json).unwrap(), tensors))
}

fn config() -> Value {
    json!({
        "vocab_size": 50, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2,
        "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 3,
    })
}

fn model() -> u32 {
    let request =
        json!({ "config": config(), "seed": 1, "architecture": "SwitchTransformersForConditionalGeneration" });
    run("model_init", request, Vec::new()).unwrap().0["model"].as_u64().unwrap() as u32
}

fn ids(name: &str, rows: usize, cols: usize) -> Tensor {
    let ids: Vec<i32> = (0..rows * cols).map(|i| (i % 40 + 2) as i32).collect();
    Tensor::from_i32(name, &[rows, cols], &ids)
}

#[test]
fn every_operation_refuses_a_request_that_is_not_json() {
    host();
    for operation in OPERATIONS.iter().filter(|name| !["describe", "set_threads"].contains(name)) {
        let failure = call(operation, "{", Vec::new(), Vec::new()).unwrap_err();
        assert!(["INVALID_OPTION", "CHECKPOINT_CORRUPT"].contains(&failure.code), "{operation}: {failure:?}");
    }
    assert_eq!(call("no_such", "{}", Vec::new(), Vec::new()).unwrap_err().code, "UNSUPPORTED_OPTION");
}

#[test]
fn what_a_model_made_goes_with_it() {
    let model = model();
    let start = json!({ "model": model, "options": { "max_new_tokens": 4, "decoder_start_token_id": 0 } });
    let session = run("generation_start", start, vec![ids("input_ids", 2, 5)]).unwrap().0["session"].clone();
    let plan = run("model_save_plan", json!({ "model": model }), Vec::new()).unwrap().0["plan"].clone();
    run("release", json!({ "handle": model }), Vec::new()).unwrap();
    for (operation, request) in [
        ("generation_step", json!({ "session": session, "max_steps": 1 })),
        ("model_save_read", json!({ "plan": plan, "file": 0, "offset": 0, "length": 8 })),
        ("model_info", json!({ "model": model })),
        ("release", json!({ "handle": model })),
    ] {
        assert_eq!(run(operation, request, Vec::new()).unwrap_err().code, "INVALID_HANDLE", "{operation}");
    }
}

#[test]
fn memory_that_is_not_there_is_refused_and_the_model_goes_on() {
    let model = model();
    let forward = |rows, cols| {
        let request = json!({ "model": model, "outputs": ["logits"] });
        run("model_forward", request, vec![ids("input_ids", rows, cols), ids("decoder_input_ids", rows, cols)])
    };
    let failure = forward(1000, 100).unwrap_err();
    assert_eq!(failure.code, "OUT_OF_MEMORY");
    assert!(failure.details.unwrap()["needed_bytes"].as_f64().unwrap() > (16 << 20) as f64);
    assert_eq!(forward(2, 3).unwrap().1[0].dims, [2, 3, 50]);
    let big = json!({ "config": { "vocab_size": 1_000_000 }, "seed": 0, "architecture": "SwitchTransformersModel" });
    assert_eq!(run("model_init", big, Vec::new()).unwrap_err().code, "OUT_OF_MEMORY");
}

#[test]
fn a_cache_carries_a_pass_on() {
    let model = model();
    let whole = json!({ "model": model, "outputs": ["logits"] });
    let (_, all) = run("model_forward", whole, vec![ids("input_ids", 2, 6), ids("decoder_input_ids", 2, 4)]).unwrap();
    let part = |from: usize, to: usize| {
        let all = ids("decoder_input_ids", 2, 4);
        let values: Vec<i32> = all.data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let rows: Vec<i32> = values.chunks_exact(4).flat_map(|row| row[from..to].to_vec()).collect();
        Tensor::from_i32("decoder_input_ids", &[2, to - from], &rows)
    };
    let first = json!({ "model": model, "outputs": ["logits"], "use_cache": true });
    let (reply, _) = run("model_forward", first, vec![ids("input_ids", 2, 6), part(0, 3)]).unwrap();
    let past = reply["past_key_values"].clone();
    let next = json!({ "model": model, "outputs": ["logits"], "past_key_values": past });
    let (_, last) = run("model_forward", next, vec![part(3, 4)]).unwrap();
    let floats = |t: &Tensor| -> Vec<f32> {
        assert_eq!(t.dtype, Dtype::Float32);
        t.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (all, last) = (floats(&all[0]), floats(&last[0]));
    for row in 0..2 {
        for (a, b) in all[(row * 4 + 3) * 50..][..50].iter().zip(&last[row * 50..][..50]) {
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "row {row}: {a} and {b}");
        }
    }
}

#[test]
fn inputs_that_make_no_sense_are_named() {
    let model = model();
    let cases: Vec<(Vec<Tensor>, &str)> = vec![
        (vec![Tensor::from_i32("input_ids", &[1, 2], &[3, 50]), ids("decoder_input_ids", 1, 1)], "input_ids[0][1]"),
        (vec![Tensor::from_i32("input_ids", &[1, 2], &[-1, 5]), ids("decoder_input_ids", 1, 1)], "input_ids[0][0]"),
        (vec![Tensor::from_i32("input_ids", &[0, 0], &[]), ids("decoder_input_ids", 1, 1)], "input_ids"),
        (vec![ids("input_ids", 1, 2)], "decoder"),
        (vec![ids("input_ids", 1, 2), ids("decoder_input_ids", 2, 1)], "rows"),
        (vec![ids("input_ids", 1, 2), ids("decoder_input_ids", 1, 1), ids("inputs", 1, 1)], "inputs"),
        (
            vec![
                ids("input_ids", 1, 2),
                ids("decoder_input_ids", 1, 1),
                Tensor::from_i32("attention_mask", &[1, 2], &[0, 0]),
            ],
            "all zero",
        ),
        (
            vec![
                ids("input_ids", 1, 2),
                ids("decoder_input_ids", 1, 1),
                Tensor::from_i32("attention_mask", &[1, 3], &[1, 1, 1]),
            ],
            "attention_mask",
        ),
    ];
    for (tensors, expected) in cases {
        let request = json!({ "model": model, "outputs": ["logits"] });
        let failure = run("model_forward", request, tensors).unwrap_err();
        assert_eq!(failure.code, "INVALID_INPUT");
        assert!(failure.message.contains(expected), "{expected:?} is not in {:?}", failure.message);
    }
    let mut torn = ids("input_ids", 1, 4);
    torn.data.pop();
    let request = json!({ "model": model, "outputs": ["logits"] });
    assert_eq!(run("model_forward", request, vec![torn]).unwrap_err().code, "INVALID_INPUT");
}

#[test]
fn padding_changes_nothing_under_any_policy() {
    for policy in ["reference", "dropless", "original"] {
        let request = json!({
            "config": config(), "seed": 3, "architecture": "SwitchTransformersForConditionalGeneration",
            "routing": { "type": policy },
        });
        let model = run("model_init", request, Vec::new()).unwrap().0["model"].clone();
        let generate = |tensors: Vec<Tensor>| {
            let options = json!({ "max_new_tokens": 6, "decoder_start_token_id": 0, "eos_token_id": null });
            let start = json!({ "model": model, "options": options });
            let session = run("generation_start", start, tensors).unwrap().0["session"].clone();
            run("generation_step", json!({ "session": session, "max_steps": 9 }), Vec::new()).unwrap();
            run("generation_finish", json!({ "session": session }), Vec::new()).unwrap().1.remove(0)
        };
        let row = [7, 9, 30, 12];
        let alone = generate(vec![Tensor::from_i32("input_ids", &[1, 4], &row)]);
        let padded = [row.as_slice(), &[44, 45, 46]].concat();
        let mask = Tensor::from_i32("attention_mask", &[1, 7], &[1, 1, 1, 1, 0, 0, 0]);
        let beside_padding = generate(vec![Tensor::from_i32("input_ids", &[1, 7], &padded), mask]);
        assert_eq!(alone, beside_padding, "{policy}");
    }
}
