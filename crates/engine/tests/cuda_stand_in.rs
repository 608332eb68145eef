//! Models with `device: "cuda"` against the same models on the CPU, with the driver's library replaced by one that runs the
//! kernels on this machine's processor: `npm run test:cuda-driver`, which builds it and puts it where the loader looks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{json, Value};
use switch_engine::{call, set_host, Dtype, Failure, Host, Reply, Source, Tensor};

fn run(
    operation: &str,
    request: Value,
    tensors: Vec<Tensor>,
    sources: Vec<Source>,
) -> Result<(Value, Vec<Tensor>), Failure> {
    set_host(Host { backend: "native", now_ms: || 0.0, threads: 1, available_memory: || None });
    let Reply { json, tensors } = call(operation, &request.to_string(), tensors, sources)?;
    Ok((serde_json::from_str(&json).unwrap(), tensors))
}

fn ok(operation: &str, request: Value, tensors: Vec<Tensor>) -> (Value, Vec<Tensor>) {
    run(operation, request, tensors, Vec::new()).unwrap_or_else(|failure| panic!("{operation}: {failure:?}"))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/parity")
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn open(folder: &Path, file: &str) -> Value {
    let bytes = Arc::new(std::fs::read(folder.join(file)).unwrap());
    let sources = vec![Source { name: file.into(), bytes }];
    run("checkpoint_open", json!({}), Vec::new(), sources).unwrap().0["checkpoint"].clone()
}

fn load(folder: &Path, device: &str) -> Result<Value, Failure> {
    let request = json!({
        "checkpoint": open(folder, "model.safetensors"), "config": json_of(folder.join("config.json")), "device": device,
        "dtype": "auto", "architecture": "SwitchTransformersForConditionalGeneration",
    });
    let load = run("model_load_start", request, Vec::new(), Vec::new())?.0["load"].clone();
    loop {
        let (reply, _) = run("model_load_step", json!({ "load": load, "max_bytes": 1e9 }), Vec::new(), Vec::new())?;
        if let Some(model) = reply.get("model") {
            return Ok(model.clone());
        }
    }
}

/// A case's inputs as the facade passes them.
fn inputs(folder: &Path) -> Vec<Tensor> {
    let (_, tensors) = ok("checkpoint_read", json!({ "checkpoint": open(folder, "inputs.safetensors") }), Vec::new());
    let int32 = |t: Tensor| match t.dtype {
        Dtype::Int64 => {
            let narrow = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as i32;
            Tensor::from_i32(t.name, &t.dims, &t.data.chunks_exact(8).map(narrow).collect::<Vec<_>>())
        }
        _ => t,
    };
    const TAKEN: [&str; 5] = ["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels"];
    tensors.into_iter().map(int32).filter(|t| TAKEN.contains(&t.name.as_str())).collect()
}

fn floats(t: &Tensor) -> Vec<f32> {
    t.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let sum: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = expected.iter().map(|b| square(f64::from(*b))).sum();
    if norm == 0.0 {
        sum.sqrt()
    } else {
        (sum / norm).sqrt()
    }
}

fn forward(model: &Value, folder: &Path) -> Vec<Tensor> {
    let outputs = [
        "logits",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
        "encoder_router_logits",
        "encoder_routes",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "decoder_router_logits",
        "decoder_routes",
    ];
    ok("model_forward", json!({ "model": model, "outputs": outputs }), inputs(folder)).1
}

fn generate(model: &Value, folder: &Path, options: &Value) -> Vec<Tensor> {
    let config = json_of(folder.join("config.json"));
    let mut all = json!({ "max_new_tokens": 8 });
    for name in ["decoder_start_token_id", "eos_token_id", "pad_token_id"] {
        all[name] = config.get(name).cloned().unwrap_or(Value::Null);
    }
    for (name, value) in options.as_object().unwrap() {
        all[name] = value.clone();
    }
    let given: Vec<Tensor> =
        inputs(folder).into_iter().filter(|t| ["input_ids", "attention_mask"].contains(&t.name.as_str())).collect();
    // A beam's route is not one row's.
    let beams = options.get("num_beams").and_then(Value::as_u64).unwrap_or(1) > 1;
    let outputs = if beams { vec!["encoder_routes"] } else { vec!["encoder_routes", "decoder_routes"] };
    let (reply, _) = ok("generation_start", json!({ "model": model, "options": all, "outputs": outputs }), given);
    let session = reply["session"].clone();
    while ok("generation_step", json!({ "session": session, "max_steps": 100 }), Vec::new()).0["done"] != true {}
    ok("generation_finish", json!({ "session": session }), Vec::new()).1
}

/// Float32 and halves alike: the test's runner asks for float32 arithmetic first, then for tensor cores.
fn tolerance(folder: &Path) -> f64 {
    let halves = folder.ends_with("bf16-weights") || folder.ends_with("fp16-weights");
    match std::env::var("SWITCH_CUDA_ARITHMETIC").as_deref() {
        Ok("float32") => 1e-5,
        Ok("tf32") => 1e-1,
        // Rounded inputs move tokens to other experts: 4e-2 of the encoder's output on the smallest case.
        _ if halves => 1e-1,
        _ => 1e-5,
    }
}

#[test]
fn every_parity_case_is_the_cpus() {
    let (reply, _) = ok("describe", json!({}), Vec::new());
    assert_eq!(reply["devices"], json!(["cpu", "cuda:0"]), "{}", reply["unavailable"]);
    let only = std::env::var("SWITCH_CASES").unwrap_or_default();
    let mut cases = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !folder.join("model.safetensors").exists() || !(only.is_empty() || only.split(',').any(|n| n == name)) {
            continue;
        }
        let (cpu, cuda) = (load(&folder, "cpu").unwrap(), load(&folder, "cuda").unwrap());
        assert_eq!(ok("model_info", json!({ "model": cuda }), Vec::new()).0["device"], "cuda:0");
        let tolerance = tolerance(&folder);
        let (expected, found) = (forward(&cpu, &folder), forward(&cuda, &folder));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((&found.name, &found.dims, found.dtype), (&expected.name, &expected.dims, expected.dtype));
            if found.dtype == Dtype::Float32 {
                let error = error(&floats(found), &floats(expected));
                assert!(error <= tolerance, "{name}: {} is off by {error:e}", found.name);
            } else if tolerance < 1e-4 {
                assert_eq!(found.data, expected.data, "{name}: {}", found.name);
            }
        }
        // The reference's own logits, in float32.
        if tolerance < 1e-4 && folder.join("expected.safetensors").exists() {
            let recorded = open(&folder, "expected.safetensors");
            let (_, tensors) = ok("checkpoint_read", json!({ "checkpoint": recorded }), Vec::new());
            let logits = tensors.iter().find(|t| t.name == "logits");
            let ours = found.iter().find(|t| t.name == "logits");
            if let (Some(logits), Some(ours)) = (logits, ours) {
                let error = error(&floats(ours), &floats(logits));
                assert!(error <= 1e-4, "{name}: logits are off the reference's by {error:e}");
                println!("{name}: logits within {error:.1e} of the reference's");
            }
        }
        if tolerance < 1e-4 && folder.join("generation.json").exists() {
            for case in json_of(folder.join("generation.json")).as_array().unwrap().iter().take(2) {
                let (expected, found) =
                    (generate(&cpu, &folder, &case["options"]), generate(&cuda, &folder, &case["options"]));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    match found.dtype {
                        Dtype::Float32 => assert!(error(&floats(found), &floats(expected)) <= tolerance, "{name}"),
                        _ => assert_eq!(found, expected, "{name}: {}", case["options"]),
                    }
                }
            }
        }
        for model in [cpu, cuda] {
            ok("release", json!({ "handle": model }), Vec::new());
        }
        cases += 1;
    }
    assert!(cases > 0);
}

#[test]
fn weights_past_the_devices_memory_are_refused_with_the_sizes() {
    let config = json!({ "vocab_size": 40_000, "d_model": 1024, "d_kv": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1, "num_decoder_layers": 1, "num_experts": 1 });
    let request =
        json!({ "config": config, "seed": 0, "device": "cuda", "architecture": "SwitchTransformersEncoderModel" });
    let failure = run("model_init", request, Vec::new(), Vec::new()).unwrap_err();
    assert_eq!(failure.code, "OUT_OF_MEMORY", "{failure:?}");
    let details = failure.details.unwrap();
    assert!(details["needed_bytes"].as_f64().unwrap() > details["free_bytes"].as_f64().unwrap());
}
