//! Losses against the values that the reference's own router tests assert (test/fixtures/routing/router-values.json).

use candle_core::{Device, Tensor};
use serde_json::Value;
use switch_model::{cross_entropy, router_losses, token_log_probs};

fn values() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/fixtures/routing/router-values.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_z_loss_is_the_references() {
    let case = &values()["router_z_loss"];
    let groups = case["router_logits"].as_array().unwrap();
    let flat: Vec<f32> = groups
        .iter()
        .flat_map(|g| g.as_array().unwrap())
        .flat_map(|t| t.as_array().unwrap())
        .map(|v| v.as_f64().unwrap() as f32)
        .collect();
    let logits = Tensor::from_vec(flat, (12, 4), &Device::Cpu).unwrap();
    let losses = router_losses(&[logits], groups.len(), 2).unwrap();
    assert!((f64::from(losses.z_loss) - case["value"].as_f64().unwrap()).abs() < 1e-4, "{losses:?}");
}

#[test]
fn sparse_steps_of_one_have_no_router_loss() {
    let logits = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    assert_eq!(router_losses(&[logits], 1, 1).unwrap(), Default::default());
}

#[test]
fn even_routing_has_a_balancing_loss_of_one() {
    // Two tokens, two experts, each chosen once with the same certainty: E² · mean(½ · ½) = 1.
    let logits = Tensor::new(&[[9f32, -9.0], [-9.0, 9.0]], &Device::Cpu).unwrap();
    let losses = router_losses(&[logits], 1, 2).unwrap();
    assert!((losses.aux_loss - 1.0).abs() < 1e-6, "{losses:?}");
}

#[test]
fn ignored_labels_take_no_part() {
    let logits = [0f32, 0.0, 5.0, -5.0];
    let log_probs = token_log_probs(&logits, 2, &[1, -100]).unwrap();
    assert_eq!(log_probs[1], 0.0);
    assert!((cross_entropy(&log_probs, &[1, -100]) - std::f32::consts::LN_2).abs() < 1e-6);
    assert!(cross_entropy(&[0.0, 0.0], &[-100, -100]).is_nan());
    assert_eq!(token_log_probs(&logits, 2, &[2, 0]).unwrap_err().code, "INVALID_INPUT");
}
