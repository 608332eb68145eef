//! The session's protocol: hooks, stopping, finished rows, errors, and that rows do not depend on each other.

mod common;

use std::slice::from_ref;

use common::{generate, options, rows, FakeModel, VOCAB};
use serde_json::{json, Value};
use switch_generation::{
    GenerationError, GenerationOptions, GenerationResult, RowInput, Session, StepInput, StepModel,
};

const ENCODER: [&[u32]; 5] = [&[5, 6, 7, 1], &[9, 5, 9, 5, 1], &[3, 1], &[12, 13, 14, 15, 16, 17, 1], &[2, 1]];

fn encoder_ids() -> Vec<Vec<u32>> {
    ENCODER.iter().map(|ids| ids.to_vec()).collect()
}

const STRATEGIES: [&str; 8] = [
    r#"{}"#,
    r#"{"repetition_penalty":1.3,"no_repeat_ngram_size":2,"min_new_tokens":3,"encoder_no_repeat_ngram_size":2}"#,
    r#"{"do_sample":true}"#,
    r#"{"do_sample":true,"num_return_sequences":3,"temperature":1.4,"top_p":0.9}"#,
    r#"{"num_beams":3,"num_return_sequences":2}"#,
    r#"{"num_beams":4,"do_sample":true,"early_stopping":true,"length_penalty":0.5}"#,
    r#"{"num_beams":4,"num_beam_groups":2,"diversity_penalty":1.5,"num_return_sequences":3}"#,
    r#"{"penalty_alpha":0.6,"top_k":4}"#,
];

fn strategy(index: usize) -> GenerationOptions {
    let mut given: Value = serde_json::from_str(STRATEGIES[index]).expect("JSON");
    given["max_new_tokens"] = json!(9);
    options(&given)
}

/// A result's rows without padding, and their scores.
fn trimmed(result: &GenerationResult) -> Vec<(Vec<u32>, Option<u32>)> {
    let scores = |row: usize| result.sequences_scores.as_ref().map(|scores| scores[row].to_bits());
    let row = |row: usize| (result.sequences[row][..result.lengths[row]].to_vec(), scores(row));
    (0..result.sequences.len()).map(row).collect()
}

#[test]
fn rows_do_not_depend_on_each_other_nor_on_their_order_and_padding() {
    let decoder_ids: Vec<Vec<u32>> = vec![vec![], vec![0, 4, 4], vec![7], vec![0], vec![0, 2, 3, 9, 9]];
    for (index, name) in STRATEGIES.iter().enumerate() {
        let options = strategy(index);
        let alone: Vec<_> = encoder_ids()
            .iter()
            .zip(&decoder_ids)
            .map(|(encoder, decoder)| trimmed(&generate(&options, from_ref(encoder), from_ref(decoder), 11)))
            .collect();
        for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3, 3, 1, 0, 1]] {
            let encoder: Vec<Vec<u32>> = order.iter().map(|row| encoder_ids()[*row].clone()).collect();
            let decoder: Vec<Vec<u32>> = order.iter().map(|row| decoder_ids[*row].clone()).collect();
            let expected: Vec<_> = order.iter().flat_map(|row| alone[*row].clone()).collect();
            assert_eq!(trimmed(&generate(&options, &encoder, &decoder, 11)), expected, "{name} {order:?}");
            if !name.contains("encoder") {
                // Processors that read the encoder's ids see padding, as in the reference; nothing else does.
                let padded: Vec<Vec<u32>> =
                    encoder.iter().map(|ids| [ids.as_slice(), &vec![0; 9 - ids.len()]].concat()).collect();
                assert_eq!(trimmed(&generate(&options, &padded, &decoder, 11)), expected, "{name} {order:?} padded");
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_tokens_and_another_gives_others() {
    for index in [2, 3, 5] {
        let mut options = strategy(index);
        let first = generate(&options, &encoder_ids(), &[], 1);
        assert_eq!(generate(&options, &encoder_ids(), &[], 1), first);
        assert_ne!(generate(&options, &encoder_ids(), &[], 2), first);
        options.seed = Some(1);
        assert_eq!(generate(&options, &encoder_ids(), &[], 2), first);
    }
}

#[test]
fn without_a_cache_the_result_is_the_same() {
    for (index, name) in STRATEGIES.iter().enumerate().filter(|(_, name)| !name.contains("penalty_alpha")) {
        let mut options = strategy(index);
        let cached = generate(&options, &encoder_ids(), &[], 3);
        options.use_cache = false;
        assert_eq!(generate(&options, &encoder_ids(), &[], 3), cached, "{name}");
    }
}

#[test]
fn a_finished_row_costs_nothing() {
    let options = strategy(0);
    let mut model = FakeModel::new(&encoder_ids(), 1);
    let mut session = Session::new(options, VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
    let mut produced = 0;
    while !session.done() {
        produced += session.step(&mut model, 0.0).expect("a step").tokens.len();
    }
    let result = session.finish();
    assert_eq!(produced, result.lengths.iter().map(|length| length - 1).sum::<usize>());
    assert_eq!(model.fed, produced);
    assert!(result.lengths.iter().any(|length| *length != result.lengths[0]), "rows end at different steps");
}

/// Hooks that a host may run between the parts of a step.
#[derive(Default)]
struct Hooks<'a> {
    scores: Option<&'a mut ScoreHook>,
    stop: Option<&'a StopHook>,
}

type ScoreHook = dyn FnMut(usize, &[u32], &mut [f32]);
type StopHook = dyn Fn(&[u32]) -> bool;

fn hooked(options: &GenerationOptions, mut hooks: Hooks<'_>) -> GenerationResult {
    let mut model = FakeModel::new(&encoder_ids(), options.slots_per_row());
    let mut session = Session::new(options.clone(), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
    while !session.done() {
        session.advance(&mut model).expect("advance");
        let live: Vec<(usize, Vec<u32>)> = (0..session.live_rows())
            .map(|index| session.live_row(index).map(|row| (row.row, row.ids.to_vec())).expect("a live row"))
            .collect();
        assert_eq!(session.scores().len(), live.len() * VOCAB);
        if let Some(change) = &mut hooks.scores {
            for ((row, ids), scores) in live.iter().zip(session.scores_mut().chunks_mut(VOCAB)) {
                change(*row, ids, scores);
            }
        }
        session.choose(&mut model, 0.0).expect("choose");
        for index in 0..session.candidates() {
            let candidate = session.candidate(index).expect("a candidate");
            if hooks.stop.is_some_and(|stop| stop(&candidate.ids)) {
                session.stop_candidate(index);
            }
        }
        session.commit(&mut model).expect("commit");
    }
    assert!(model.slots.is_empty());
    session.finish()
}

#[test]
fn a_host_sees_and_changes_scores_with_every_strategy() {
    for index in 0..STRATEGIES.len() {
        let options = strategy(index);
        assert_eq!(hooked(&options, Hooks::default()), generate(&options, &encoder_ids(), &[], 0), "{index}");
        let mut force = |row: usize, ids: &[u32], scores: &mut [f32]| {
            assert!(row < 5 && ids[0] == 0);
            scores.fill(-1e6);
            scores[20] = 1.0;
        };
        let result = hooked(&options, Hooks { scores: Some(&mut force), stop: None });
        assert!(result.sequences.iter().any(|ids| ids[1..=3] == [20, 20, 20]), "{index}: {:?}", result.sequences);
    }
}

#[test]
fn a_host_stops_continuations_with_every_strategy() {
    for index in 0..STRATEGIES.len() {
        let stop = |ids: &[u32]| ids.len() >= 3;
        let result = hooked(&strategy(index), Hooks { scores: None, stop: Some(&stop) });
        assert!(result.lengths.iter().all(|length| (2..=4).contains(length)), "{index}: {:?}", result.sequences);
    }
}

#[test]
fn rows_stop_between_steps() {
    for index in 0..STRATEGIES.len() {
        let options = strategy(index);
        let mut model = FakeModel::new(&encoder_ids(), options.slots_per_row());
        let mut session = Session::new(options.clone(), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
        session.step(&mut model, 0.0).expect("a step");
        session.step(&mut model, 0.0).expect("a step");
        for row in 0..session.output_rows() + 3 {
            session.stop_row(row, &mut model);
        }
        assert!(session.done() && model.slots.is_empty(), "{index}");
        assert_eq!(session.step(&mut model, 0.0).map(|report| report.done), Ok(true));
        let result = session.finish();
        assert_eq!(result.sequences.len(), 5 * options.num_return_sequences);
        assert!(result.lengths.iter().all(|length| (2..=4).contains(length)), "{index}: {:?}", result.sequences);
    }
}

#[test]
fn time_ends_every_row_after_the_step_that_exceeds_it() {
    for index in 0..STRATEGIES.len() {
        let mut options = strategy(index);
        options.max_time = Some(0.25);
        let mut model = FakeModel::new(&encoder_ids(), options.slots_per_row());
        let mut session = Session::new(options, VOCAB, rows(&encoder_ids(), &[]), 0, 1000.0).expect("a session");
        assert_eq!(session.step(&mut model, 1250.0).map(|report| report.done), Ok(false), "{index}");
        assert_eq!(session.step(&mut model, 1251.0).map(|report| report.done), Ok(true), "{index}");
        assert!(session.done() && model.slots.is_empty());
    }
}

#[test]
fn a_session_may_be_left_at_any_point() {
    for index in 0..STRATEGIES.len() {
        for parts in 0..7 {
            let options = strategy(index);
            let mut model = FakeModel::new(&encoder_ids(), options.slots_per_row());
            let mut session =
                Session::new(options.clone(), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
            for part in 0..parts {
                match part % 3 {
                    0 => session.advance(&mut model).expect("advance"),
                    1 => session.choose(&mut model, 0.0).expect("choose"),
                    _ => drop(session.commit(&mut model).expect("commit")),
                }
            }
            let result = session.finish();
            let width = result.sequences.first().map_or(0, Vec::len);
            assert!(result.sequences.iter().all(|ids| ids.len() == width && ids[0] == 0), "{index} {parts}");
        }
    }
}

#[test]
fn parts_out_of_order_are_errors() {
    let mut model = FakeModel::new(&encoder_ids(), 1);
    let mut session = Session::new(strategy(0), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
    assert_eq!(session.choose(&mut model, 0.0).map_err(|error| error.code), Err("INTERNAL"));
    assert_eq!(session.commit(&mut model).map_err(|error| error.code), Err("INTERNAL"));
    session.advance(&mut model).expect("advance");
    assert_eq!(session.advance(&mut model).map_err(|error| error.code), Err("INTERNAL"));
    assert_eq!(session.candidate(0), None);
    session.choose(&mut model, 0.0).expect("choose");
    assert_eq!(session.live_row(0), None);
    assert!(session.candidate(0).is_some() && session.candidate(99).is_none());
    session.stop_candidate(99);
    session.commit(&mut model).expect("commit");
}

#[test]
fn scores_that_cannot_be_chosen_from_are_errors() {
    for index in 0..STRATEGIES.len() {
        let options = strategy(index);
        let mut model = FakeModel::new(&encoder_ids(), options.slots_per_row());
        model.bias = vec![0.0, 0.0, f32::NAN];
        let mut session = Session::new(options, VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
        let error = session.step(&mut model, 0.0).expect_err("NaN");
        assert_eq!(error.code, "INVALID_INPUT", "{index}");
        assert!(error.message.contains("NaN"), "{}", error.message);
        assert!(session.step(&mut model, 0.0).is_err(), "the session is over");
    }
    let sample = strategy(2);
    let mut model = FakeModel::new(&encoder_ids(), 1);
    model.bias = vec![f32::NEG_INFINITY; VOCAB];
    let mut session = Session::new(sample, VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
    assert_eq!(session.step(&mut model, 0.0).map_err(|error| error.code), Err("INVALID_INPUT"));
}

/// A model that breaks its contract.
struct Broken(usize);

impl StepModel for Broken {
    fn vocab_size(&self) -> usize {
        VOCAB
    }
    fn step(&mut self, _: &[StepInput<'_>], logits: &mut Vec<f32>) -> Result<(), GenerationError> {
        logits.clear();
        logits.resize(self.0, 0.0);
        Ok(())
    }
    fn reorder(&mut self, _: &[(usize, usize)]) -> Result<(), GenerationError> {
        Ok(())
    }
    fn release(&mut self, _: usize) {}
}

#[test]
fn a_model_that_gives_too_little_or_cannot_do_what_is_asked_is_an_error() {
    for index in 0..STRATEGIES.len() - 1 {
        let mut session = Session::new(strategy(index), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
        assert_eq!(session.step(&mut Broken(7), 0.0).map_err(|error| error.code), Err("INTERNAL"), "{index}");
    }
    let mut session = Session::new(strategy(7), VOCAB, rows(&encoder_ids(), &[]), 0, 0.0).expect("a session");
    let error = session.step(&mut Broken(0), 0.0).expect_err("no hidden states");
    assert_eq!((error.code, error.option.as_deref()), ("UNSUPPORTED_OPTION", Some("penalty_alpha")));
}

#[test]
fn rows_and_options_that_do_not_fit_are_refused() {
    let fails = |given: Value, rows: Vec<RowInput>| {
        let mut all = json!({ "decoder_start_token_id": 0 });
        all.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let options = GenerationOptions::from_json(&all, VOCAB).expect("valid options");
        let error = Session::new(options, VOCAB, rows, 0, 0.0).err().expect("an error");
        (error.code, error.option.unwrap_or_default())
    };
    let row =
        |encoder: &[u32], decoder: &[u32]| RowInput { encoder_ids: encoder.to_vec(), decoder_ids: decoder.to_vec() };
    let invalid = |option: &str| ("INVALID_OPTION", option.to_owned());
    assert_eq!(fails(json!({}), vec![]).0, "INVALID_INPUT");
    assert_eq!(fails(json!({}), vec![row(&[99], &[])]).0, "INVALID_INPUT");
    assert_eq!(fails(json!({}), vec![row(&[1], &[0, 24])]).0, "INVALID_INPUT");
    assert_eq!(
        fails(json!({ "decoder_start_token_id": null }), vec![row(&[1], &[])]),
        invalid("decoder_start_token_id")
    );
    assert_eq!(fails(json!({ "max_length": 3 }), vec![row(&[1], &[0, 1, 2])]), invalid("max_length"));
    assert_eq!(fails(json!({ "num_beams": 1_000_000_000 }), vec![row(&[1], &[])]), invalid("num_beams"));
    assert_eq!(fails(json!({ "num_beams": u64::MAX }), vec![row(&[1], &[])]), invalid("num_beams"));
    let many = json!({ "do_sample": true, "num_return_sequences": u64::MAX });
    assert_eq!(fails(many, vec![row(&[1], &[])]), invalid("num_return_sequences"));
    assert_eq!(fails(json!({ "penalty_alpha": 0.5, "top_k": 25 }), vec![row(&[1], &[])]), invalid("top_k"));
    let ends: Vec<u32> = (0..24).collect();
    assert_eq!(fails(json!({ "num_beams": 2, "eos_token_id": ends }), vec![row(&[1], &[])]), invalid("eos_token_id"));
}
