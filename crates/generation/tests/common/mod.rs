//! A model whose logits are a hash of its ids, the same as in `test/fixtures/generation/make_sequences.py`.

#![allow(dead_code)]

use std::collections::BTreeMap;

use switch_generation::{
    GenerationError, GenerationOptions, GenerationResult, RowInput, Session, StepInput, StepModel,
};

pub const VOCAB: usize = 24;

/// Keeps what a cache would stand for: the ids that each slot has been fed.
pub struct FakeModel {
    pub encoder_ids: Vec<Vec<u32>>,
    pub slots_per_row: usize,
    pub vocab_size: usize,
    pub slots: BTreeMap<usize, Vec<u32>>,
    pub released: Vec<usize>,
    /// Tokens fed so far.
    pub fed: usize,
    /// Added to the logits of every row.
    pub bias: Vec<f32>,
}

impl FakeModel {
    pub fn new(encoder_ids: &[Vec<u32>], slots_per_row: usize) -> Self {
        Self {
            encoder_ids: encoder_ids.to_vec(),
            slots_per_row,
            vocab_size: VOCAB,
            slots: BTreeMap::new(),
            released: Vec::new(),
            fed: 0,
            bias: Vec::new(),
        }
    }

    fn feed(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>, hidden: &mut Vec<f32>) {
        logits.clear();
        hidden.clear();
        let mut seen = std::collections::BTreeSet::new();
        for input in inputs {
            assert!(seen.insert(input.slot), "slot {} fed twice", input.slot);
            assert!(!input.tokens.is_empty());
            assert!(!self.released.contains(&input.slot), "slot {} fed after its release", input.slot);
            let encoder = absorb(0, self.encoder_ids[input.slot / self.slots_per_row].iter().filter(|id| **id != 0));
            let ids = self.slots.entry(input.slot).or_default();
            for token in input.tokens {
                ids.push(*token);
                let state = absorb(encoder, ids.iter());
                hidden.extend((1000..1004).map(|d| unit(state, d) as f32 - 0.5));
            }
            self.fed += input.tokens.len();
            let state = absorb(encoder, ids.iter());
            let mut row: Vec<f32> = (0..self.vocab_size as u32).map(|v| (8.0 * unit(state, v) - 4.0) as f32).collect();
            row[1] += 0.5 * (ids.len() as f32 - 3.0);
            row.iter_mut().zip(&self.bias).for_each(|(logit, bias)| *logit += bias);
            logits.extend(row);
        }
    }
}

impl StepModel for FakeModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn step(&mut self, inputs: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        self.feed(inputs, logits, &mut Vec::new());
        Ok(())
    }

    fn step_with_hidden(
        &mut self,
        inputs: &[StepInput<'_>],
        logits: &mut Vec<f32>,
        hidden: &mut Vec<f32>,
    ) -> Result<(), GenerationError> {
        self.feed(inputs, logits, hidden);
        Ok(())
    }

    fn reorder(&mut self, moves: &[(usize, usize)]) -> Result<(), GenerationError> {
        let before = self.slots.clone();
        for (to, from) in moves {
            assert_eq!(to / self.slots_per_row, from / self.slots_per_row, "slots of different rows");
            self.slots.insert(*to, before[from].clone());
        }
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        assert!(!self.released.contains(&slot), "slot {slot} released twice");
        self.released.push(slot);
        self.slots.remove(&slot);
    }

    fn reset(&mut self, slot: usize) -> Result<(), GenerationError> {
        self.slots.remove(&slot);
        Ok(())
    }
}

fn absorb<'a>(state: u32, ids: impl Iterator<Item = &'a u32>) -> u32 {
    ids.fold(state, |state, id| state.wrapping_mul(1_000_003) ^ (id + 1))
}

fn unit(state: u32, v: u32) -> f64 {
    let x = (state ^ v.wrapping_mul(0x9E37_79B1)).wrapping_mul(0x85EB_CA6B);
    let x = (x ^ (x >> 15)).wrapping_mul(0xC2B2_AE35);
    f64::from((x ^ (x >> 13)) >> 12) / f64::from(1 << 20)
}

pub fn rows(encoder_ids: &[Vec<u32>], decoder_ids: &[Vec<u32>]) -> Vec<RowInput> {
    let decoder = |row: usize| decoder_ids.get(row).cloned().unwrap_or_default();
    let row = |(row, ids): (usize, &Vec<u32>)| RowInput { encoder_ids: ids.clone(), decoder_ids: decoder(row) };
    encoder_ids.iter().enumerate().map(row).collect()
}

/// Options with the fake model's own token ids, unless given.
pub fn options(given: &serde_json::Value) -> GenerationOptions {
    let mut all = serde_json::json!({ "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0 });
    let given = given.as_object().expect("an object");
    all.as_object_mut().expect("an object").extend(given.clone());
    GenerationOptions::from_json(&all, VOCAB).expect("valid options")
}

/// Generates to the end.
pub fn generate(
    options: &GenerationOptions,
    encoder_ids: &[Vec<u32>],
    decoder_ids: &[Vec<u32>],
    seed: u64,
) -> GenerationResult {
    let mut model = FakeModel::new(encoder_ids, options.slots_per_row());
    let mut session =
        Session::new(options.clone(), VOCAB, rows(encoder_ids, decoder_ids), seed, 0.0).expect("a session");
    let mut steps = 0;
    while !session.done() {
        session.step(&mut model, 0.0).expect("a step");
        steps += 1;
        assert!(steps < 1000, "does not end");
    }
    assert!(model.slots.is_empty(), "slots left: {:?}", model.slots);
    session.finish()
}
