//! What a step costs besides the model, at a vocabulary of 32,128: processors, warpers, choice, beams.
//!
//! `cargo bench -p switch-generation`. Prints the median of repeated steps in microseconds for each row.

use std::time::Instant;

use serde_json::{json, Value};
use switch_generation::{GenerationError, GenerationOptions, RowInput, Session, StepInput, StepModel};

const VOCAB: usize = 32_128;
const STEPS: usize = 60;

/// Gives one of a few rows of logits, by a copy.
struct Rows(Vec<Vec<f32>>, usize);

impl StepModel for Rows {
    fn vocab_size(&self) -> usize {
        VOCAB
    }
    fn step(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        logits.clear();
        for _ in inputs {
            self.1 += 1;
            logits.extend_from_slice(&self.0[self.1 % self.0.len()]);
        }
        Ok(())
    }
    fn reorder(&mut self, _: &[(usize, usize)]) -> Result<(), GenerationError> {
        Ok(())
    }
    fn release(&mut self, _: usize) {}
}

/// Roughly normal logits, as a sum of uniforms.
fn logits(seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..VOCAB).map(|_| (uniform() + uniform() + uniform() + uniform() - 2.0) * 4.0).collect()
}

/// Median microseconds of a step, per row of the batch.
fn measure(given: &Value, batch: usize) -> f64 {
    let mut all = json!({ "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "max_new_tokens": STEPS, "min_new_tokens": STEPS });
    all.as_object_mut().expect("an object").extend(given.as_object().expect("an object").clone());
    let options = GenerationOptions::from_json(&all, VOCAB).expect("valid options");
    let encoder_ids: Vec<u32> = (0..64).map(|i| 2 + i * 37).collect();
    let rows = vec![RowInput { encoder_ids, decoder_ids: vec![] }; batch];
    let mut model = Rows((0..5).map(logits).collect(), 0);
    let mut session = Session::new(options, VOCAB, rows, 0, 0.0).expect("a session");
    let mut times = Vec::new();
    while !session.done() {
        let start = Instant::now();
        session.step(&mut model, 0.0).expect("a step");
        times.push(start.elapsed().as_secs_f64() * 1e6 / batch as f64);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let all = json!({
        "do_sample": true, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3, "encoder_repetition_penalty": 1.1, "encoder_no_repeat_ngram_size": 4,
        "bad_words_ids": [[5], [6, 7]], "suppress_tokens": [8, 9], "sequence_bias": [[[11], 1.0]],
        "exponential_decay_length_penalty": [3, 1.1], "renormalize_logits": true,
    });
    let cases = [
        ("greedy", json!({})),
        (
            "greedy, all common processors",
            json!({ "repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 4, "bad_words_ids": [[5], [6, 7]], "suppress_tokens": [8, 9], "exponential_decay_length_penalty": [3, 1.1] }),
        ),
        ("sample, no warper", json!({ "do_sample": true, "top_k": 0 })),
        ("sample, top_k 50", json!({ "do_sample": true })),
        ("sample, temperature, top_k and top_p", json!({ "do_sample": true, "temperature": 0.8, "top_p": 0.95 })),
        ("sample, top_p alone", json!({ "do_sample": true, "top_k": 0, "top_p": 0.95 })),
        ("sample, min_p alone", json!({ "do_sample": true, "top_k": 0, "min_p": 0.05 })),
        ("sample, typical_p alone", json!({ "do_sample": true, "top_k": 0, "typical_p": 0.9 })),
        ("sample, eta_cutoff alone", json!({ "do_sample": true, "top_k": 0, "eta_cutoff": 0.0003 })),
        ("sample, everything", all),
        ("4 beams", json!({ "num_beams": 4 })),
        ("4 beams, sampled", json!({ "num_beams": 4, "do_sample": true })),
        ("4 beams in 2 groups", json!({ "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0 })),
    ];
    println!("microseconds for each row and step, the fake model's copy of its logits included");
    for (name, given) in cases {
        println!("{:>9.1} {:>9.1}  {name}", measure(&given, 1), measure(&given, 32));
    }
}
