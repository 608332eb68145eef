//! What generation options are refused, and how.

use serde_json::{json, Value};
use switch_generation::{EarlyStopping, GenerationOptions, Strategy, SUPPORTED_OPTIONS};

const VOCAB: usize = 100;

fn parse(options: Value) -> Result<GenerationOptions, (String, String, String)> {
    GenerationOptions::from_json(&options, VOCAB)
        .map_err(|error| (error.code.to_owned(), error.option.unwrap_or_default(), error.message))
}

/// That each value of each option is refused, naming the option.
fn refused(code: &str, cases: &[(&str, &[Value])]) {
    for (option, values) in cases {
        for value in *values {
            let (found_code, found_option, message) =
                parse(json!({ *option: value })).expect_err(&format!("{option}: {value}"));
            assert_eq!((found_code.as_str(), found_option.as_str()), (code, *option), "{option}: {value}: {message}");
            assert!(message.contains(option), "{message}");
        }
    }
}

#[test]
fn wrong_types_and_values_out_of_range_are_refused() {
    let not_a_count =
        [json!(-1), json!(1.5), json!("3"), json!(true), json!([3]), json!({}), json!("NaN"), json!(1e300)];
    for option in ["max_length", "max_new_tokens", "num_beams", "num_beam_groups", "num_return_sequences"] {
        refused("INVALID_OPTION", &[(option, &not_a_count), (option, &[json!(0)])]);
    }
    for option in
        ["min_length", "min_new_tokens", "top_k", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "seed"]
    {
        refused("INVALID_OPTION", &[(option, &not_a_count)]);
    }
    let not_a_flag = [json!(1), json!(0), json!("true"), json!([]), json!({})];
    for option in [
        "do_sample",
        "use_cache",
        "renormalize_logits",
        "remove_invalid_values",
        "output_scores",
        "output_logits",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict_in_generate",
    ] {
        refused("INVALID_OPTION", &[(option, &not_a_flag)]);
    }
    let not_a_number = [json!("1"), json!(true), json!([0.5]), json!({}), json!("Infinity"), json!("NaN")];
    for option in [
        "temperature",
        "top_p",
        "min_p",
        "top_h",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "repetition_penalty",
        "encoder_repetition_penalty",
        "length_penalty",
        "max_time",
        "diversity_penalty",
        "penalty_alpha",
    ] {
        refused("INVALID_OPTION", &[(option, &not_a_number)]);
    }
    refused(
        "INVALID_OPTION",
        &[
            ("temperature", &[json!(0), json!(-0.1)]),
            ("repetition_penalty", &[json!(0), json!(-1)]),
            ("encoder_repetition_penalty", &[json!(0.0)]),
            ("top_p", &[json!(-0.01), json!(1.01)]),
            ("min_p", &[json!(-0.01), json!(1.01)]),
            ("top_h", &[json!(0), json!(1.01)]),
            ("typical_p", &[json!(0), json!(1.01)]),
            ("epsilon_cutoff", &[json!(-0.01), json!(1)]),
            ("eta_cutoff", &[json!(-0.01), json!(1)]),
            ("penalty_alpha", &[json!(-0.1), json!(1.1)]),
            ("max_time", &[json!(-1)]),
            ("early_stopping", &[json!("always"), json!(1), json!([])]),
            ("stop_strings", &[json!(1), json!([]), json!(""), json!(["a", ""]), json!(["a", 1])]),
        ],
    );
}

#[test]
fn token_ids_have_to_be_in_the_vocabulary() {
    let not_an_id = [json!(100), json!(-1), json!(1.5), json!("1"), json!(true), json!(4_294_967_296_u64), json!({})];
    for option in ["pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_bos_token_id"] {
        refused("INVALID_OPTION", &[(option, &not_an_id), (option, &[json!([1])])]);
    }
    for option in ["eos_token_id", "forced_eos_token_id"] {
        refused("INVALID_OPTION", &[(option, &not_an_id), (option, &[json!([]), json!([1, 100]), json!([[1]])])]);
    }
    for option in ["suppress_tokens", "begin_suppress_tokens"] {
        refused(
            "INVALID_OPTION",
            &[(option, &not_an_id), (option, &[json!(1), json!([]), json!([100]), json!([null])])],
        );
    }
    let lists =
        [json!([]), json!([[]]), json!([1]), json!([[1], []]), json!([[100]]), json!([[1.5]]), json!({}), json!(1)];
    refused("INVALID_OPTION", &[("bad_words_ids", &lists), ("sequence_bias", &lists)]);
    let biases = [
        json!([[[1], "2"]]),
        json!([[[1]]]),
        json!([[[1], 2.0, 3.0]]),
        json!([[[], 1.0]]),
        json!([[[100], 1.0]]),
        json!([[[1], null]]),
    ];
    refused("INVALID_OPTION", &[("sequence_bias", &biases)]);
    let decays = [
        json!([]),
        json!([1]),
        json!([1, 0]),
        json!([1, -1.0]),
        json!([-1, 1.0]),
        json!([1.5, 1.0]),
        json!([1, 1, 1]),
        json!(1),
        json!([1, "2"]),
    ];
    refused("INVALID_OPTION", &[("exponential_decay_length_penalty", &decays)]);
}

#[test]
fn contradictions_are_refused() {
    let contradictions = [
        (json!({ "num_return_sequences": 2 }), "num_return_sequences"),
        (json!({ "num_return_sequences": 2, "penalty_alpha": 0.5, "top_k": 4 }), "num_return_sequences"),
        (json!({ "num_return_sequences": 4, "num_beams": 3 }), "num_return_sequences"),
        (json!({ "num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0 }), "num_beam_groups"),
        (json!({ "num_beam_groups": 2, "diversity_penalty": 1.0 }), "num_beam_groups"),
        (
            json!({ "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": true }),
            "num_beam_groups",
        ),
        (json!({ "num_beams": 4, "num_beam_groups": 2 }), "diversity_penalty"),
        (json!({ "num_beams": 4, "diversity_penalty": 1.0 }), "diversity_penalty"),
        (json!({ "suppress_tokens": [1, 2], "forced_eos_token_id": [2, 1] }), "suppress_tokens"),
        (json!({ "suppress_tokens": [1, 2], "forced_bos_token_id": 1 }), "suppress_tokens"),
        (json!({ "bad_words_ids": [[1], [2]], "eos_token_id": [1, 2] }), "bad_words_ids"),
        (json!({ "exponential_decay_length_penalty": [1, 1.5] }), "exponential_decay_length_penalty"),
    ];
    for (options, option) in contradictions {
        let (code, found, message) = parse(options.clone()).expect_err(&options.to_string());
        assert_eq!((code.as_str(), found.as_str()), ("INVALID_OPTION", option), "{options}: {message}");
    }
    assert!(parse(json!({ "suppress_tokens": [1], "forced_eos_token_id": [1, 2] })).is_ok());
    assert!(parse(json!({ "bad_words_ids": [[1], [2]], "eos_token_id": 1 })).is_ok());
}

#[test]
fn what_is_not_available_or_not_known_is_refused_by_name() {
    refused(
        "UNSUPPORTED_OPTION",
        &[
            ("force_words_ids", &[json!([[1]])]),
            ("constraints", &[json!([])]),
            ("assistant_model", &[json!("x")]),
            ("prompt_lookup_num_tokens", &[json!(3)]),
            ("dola_layers", &[json!("high")]),
            ("cache_implementation", &[json!("static")]),
            ("watermarking_config", &[json!({})]),
            ("token_healing", &[json!(true)]),
            ("guidance_scale", &[json!(1.5), json!(0), json!("x")]),
            ("no_such_option", &[json!(1), json!(null)]),
        ],
    );
    let (code, option, message) = parse(json!({ "max_new_token": 3 })).expect_err("a slip");
    assert_eq!((code.as_str(), option.as_str()), ("UNSUPPORTED_OPTION", "max_new_token"));
    assert!(message.contains("did you mean max_new_tokens?"), "{message}");
    let harmless = json!({
        "guidance_scale": 1, "force_words_ids": null, "token_healing": false, "num_assistant_tokens": 20,
        "_from_model_config": true, "transformers_version": "5.18.0", "cache_implementation": null,
    });
    assert_eq!(parse(harmless), Ok(GenerationOptions::default()));
}

#[test]
fn all_faults_are_reported_at_once() {
    let options =
        json!({ "temperature": "hot", "top_p": 2, "num_beems": 4, "eos_token_id": [], "num_return_sequences": 2 });
    let error = GenerationOptions::from_json(&options, VOCAB).expect_err("faults");
    let names: Vec<&str> = error.faults.iter().map(|fault| fault.option.as_str()).collect();
    assert_eq!(names, ["temperature", "top_p", "eos_token_id", "num_return_sequences", "num_beems"]);
    assert!(names.iter().all(|name| error.message.contains(name)));
    assert_eq!(error.code, "INVALID_OPTION");
}

#[test]
fn null_is_unset_and_defaults_are_the_reference_s() {
    let nulls: serde_json::Map<String, Value> =
        SUPPORTED_OPTIONS.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    assert_eq!(parse(Value::Object(nulls)), Ok(GenerationOptions::default()));
    assert_eq!(parse(json!({})), Ok(GenerationOptions::default()));
    let options = GenerationOptions::default();
    assert_eq!((options.top_k, options.num_beams, options.early_stopping), (50, 1, EarlyStopping::No));
    assert_eq!(options.length_limit(3), 23);
    assert_eq!(parse(json!({ "max_length": 9 })).map(|o| o.length_limit(3)), Ok(9));
    assert_eq!(parse(json!({ "max_length": 9, "max_new_tokens": 2 })).map(|o| o.length_limit(3)), Ok(5));
    assert_eq!(parse(json!({ "max_new_tokens": u64::MAX })).map(|o| o.length_limit(3)), Ok(usize::MAX));
    // Whole numbers may be written as floats, as JavaScript's numbers all are.
    assert_eq!(parse(json!({ "num_beams": 2.0, "seed": 9_007_199_254_740_992.0 })).map(|o| o.num_beams), Ok(2));
}

#[test]
fn strategies_are_chosen_as_the_reference_does() {
    let strategy = |options: Value| parse(options).map(|options| options.strategy());
    assert_eq!(strategy(json!({})), Ok(Strategy::Greedy));
    assert_eq!(strategy(json!({ "do_sample": true, "penalty_alpha": 0.5 })), Ok(Strategy::Sample));
    assert_eq!(strategy(json!({ "num_beams": 2 })), Ok(Strategy::Beam));
    assert_eq!(strategy(json!({ "num_beams": 2, "do_sample": true })), Ok(Strategy::BeamSample));
    assert_eq!(
        strategy(json!({ "num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 1.0 })),
        Ok(Strategy::GroupBeam)
    );
    assert_eq!(strategy(json!({ "penalty_alpha": 0.5 })), Ok(Strategy::Contrastive));
    assert_eq!(strategy(json!({ "penalty_alpha": 0.5, "top_k": 1 })), Ok(Strategy::Greedy));
    assert_eq!(strategy(json!({ "penalty_alpha": 0.0 })), Ok(Strategy::Greedy));
}

#[test]
fn anything_that_is_not_an_object_is_refused_and_long_values_are_cut() {
    for options in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
        assert_eq!(parse(options).expect_err("no object").0, "INVALID_OPTION");
    }
    let (_, _, message) =
        parse(json!({ "temperature": "x".repeat(1 << 20), "top_p": vec![1; 1 << 16] })).expect_err("long");
    assert!(message.len() < 2000, "{}", message.len());
    let (_, _, message) = parse(json!({ "y".repeat(1 << 20): 1 })).expect_err("long");
    assert!(message.len() < 2000, "{}", message.len());
}
