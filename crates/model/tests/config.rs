//! Configs: the reference's defaults, and every fault at once.

use serde_json::json;
use switch_model::SwitchTransformersConfig;

#[test]
fn an_empty_config_has_the_references_defaults() {
    let config = SwitchTransformersConfig::from_json(&json!({})).unwrap();
    assert_eq!((config.vocab_size, config.d_model, config.d_kv, config.d_ff), (32128, 768, 64, 2048));
    assert_eq!((config.num_layers, config.num_decoder_layers, config.num_heads), (12, 12, 12));
    assert_eq!((config.num_experts, config.expert_capacity), (8, 64));
    assert_eq!((config.encoder_sparse_step, config.decoder_sparse_step), (4, 4));
    let sparse: Vec<usize> = (0..12).filter(|i| config.sparse_encoder_layers[*i]).collect();
    assert_eq!(sparse, [1, 5, 9]);
    assert!(config.tie_word_embeddings);
}

#[test]
fn steps_in_a_file_override_the_counts() {
    let config =
        SwitchTransformersConfig::from_json(&json!({ "encoder_sparse_step": 2, "decoder_sparse_step": 0 })).unwrap();
    assert_eq!(config.sparse_encoder_layers.iter().filter(|s| **s).count(), 6);
    assert!(!config.sparse_decoder_layers.contains(&true));
}

#[test]
fn zero_sparse_layers_still_make_one() {
    // The reference's step is then the depth, and layer 1 is sparse.
    let config =
        SwitchTransformersConfig::from_json(&json!({ "num_layers": 4, "num_sparse_encoder_layers": 0 })).unwrap();
    assert_eq!(config.sparse_encoder_layers, [false, true, false, false]);
}

#[test]
fn aliases_are_read_and_unknown_fields_kept() {
    let config = SwitchTransformersConfig::from_json(
        &json!({ "hidden_size": 32, "num_decoder_layers": null, "num_layers": 3, "mine": [1] }),
    )
    .unwrap();
    assert_eq!((config.d_model, config.num_decoder_layers), (32, 3));
    assert_eq!(config.resolved["mine"], json!([1]));
    assert_eq!(config.resolved["d_model"], json!(32));
}

#[test]
fn every_fault_is_reported_at_once() {
    let error = SwitchTransformersConfig::from_json(&json!({
        "d_model": -3,
        "num_heads": 1.5,
        "dropout_rate": "much",
        "dense_act_fn": "nope",
        "pad_token_id": 99999999,
        "router_dtype": "int8",
        "hidden_size": 64,
    }))
    .unwrap_err();
    assert_eq!(error.code, "INVALID_CONFIG");
    let faults = error.details.unwrap()["faults"].as_array().unwrap().clone();
    for field in ["d_model", "num_heads", "dropout_rate", "dense_act_fn", "pad_token_id", "router_dtype"] {
        assert!(faults.iter().any(|f| f["field"] == field), "{field} is missing in {faults:?}");
    }
}

#[test]
fn absurd_sizes_are_refused_without_allocating() {
    for config in [
        json!({ "vocab_size": 1u64 << 60 }),
        json!({ "num_layers": 1_000_000_000u64 }),
        json!({ "num_experts": 1u64 << 20, "num_layers": 4096 }),
        json!({ "d_model": 1u64 << 24, "d_ff": 1u64 << 24 }),
        json!({ "num_heads": 1u64 << 24, "d_kv": 1u64 << 24 }),
    ] {
        assert_eq!(SwitchTransformersConfig::from_json(&config).unwrap_err().code, "INVALID_CONFIG", "{config}");
    }
}
