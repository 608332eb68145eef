//! Shards and their index must agree.
mod common;

use common::*;
use switch_checkpoint::{shard_names, Checkpoint, CheckpointError};

fn shard(names: &[&str]) -> Vec<u8> {
    let tensors: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, name)| format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1))
        .collect();
    safetensors(&format!("{{{}}}", tensors.join(",")), &vec![0; names.len()])
}

fn open(files: &[(&str, &[&str])], index: Option<&str>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(files.iter().map(|(name, tensors)| mapped(name, shard(tensors))).collect(), index)
}

fn refused(files: &[(&str, &[&str])], index: Option<&str>, code: &str, says: &str) {
    let error = open(files, index).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

const TWO: [(&str, &[&str]); 2] = [("1.safetensors", &["a", "b"]), ("2.safetensors", &["c"])];

#[test]
fn shards_join() {
    let index =
        r#"{"metadata":{"total_size":3},"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}}"#;
    let checkpoint = open(&TWO, Some(index)).unwrap();
    assert_eq!(checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(checkpoint.get("c").unwrap().file, 1);
    assert_eq!(shard_names(index).unwrap(), ["1.safetensors", "2.safetensors"]);
    assert_eq!(open(&TWO, None).unwrap().tensors().len(), 3);
}

#[test]
fn a_missing_shard_is_named() {
    let index = r#"{"weight_map":{"a":"1.safetensors","c":"3.safetensors"}}"#;
    refused(&TWO, Some(index), "FILE_NOT_FOUND", "3.safetensors: found no such file");
    let index = r#"{"weight_map":{"a":"5.safetensors","b":"4.safetensors","c":"4.safetensors"}}"#;
    refused(
        &TWO,
        Some(index),
        "FILE_NOT_FOUND",
        "4.safetensors: found no such file, although the index names it, and 1 more",
    );
}

#[test]
fn tensors_missing_from_their_shard_are_all_named() {
    let index = r#"{"weight_map":{"a":"2.safetensors","c":"2.safetensors","d":"1.safetensors"}}"#;
    refused(&TWO, Some(index), "CHECKPOINT_CORRUPT", "a in 2.safetensors, d in 1.safetensors");
    let map: Vec<String> = (0..1000).map(|i| format!(r#""t{i}":"1.safetensors""#)).collect();
    refused(&TWO, Some(&format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","))), "CHECKPOINT_CORRUPT", "and 990 more");
}

#[test]
fn a_tensor_in_two_files_is_an_error() {
    refused(&[("1", &["a", "b"]), ("2", &["b"])], None, "CHECKPOINT_CORRUPT", "tensor \"b\": found it in 1 too");
    refused(&[("1", &["a"]), ("1", &["b"])], None, "INVALID_INPUT", "the file twice");
    refused(&[], None, "FILE_NOT_FOUND", "no files");
}

#[test]
fn paths_that_leave_the_folder() {
    for path in [
        "../1.safetensors",
        "a/../../1.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a//b",
        "a/",
        "./1.safetensors",
        "C:\\\\1.safetensors",
        "C:1.safetensors",
        "..\\\\1.safetensors",
        "\\\\\\\\host\\\\share",
        "1\\u0000.safetensors",
        "http://host/1.safetensors",
    ] {
        let index = format!(r#"{{"weight_map":{{"a":"{path}"}}}}"#);
        refused(&TWO, Some(&index), "CHECKPOINT_UNSAFE", "tensor \"a\"");
        assert_eq!(shard_names(&index).unwrap_err().code(), "CHECKPOINT_UNSAFE");
    }
}

#[test]
fn an_index_that_is_not_one() {
    let deep = "[".repeat(1_000_000);
    let deep = format!(r#"{{"weight_map":{deep}"#);
    let long = " ".repeat(40_000_000);
    for (index, says) in [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "weight_map"),
        (r#"{"weight_map":[]}"#, "cannot be read"),
        (r#"{"weight_map":{"a":1}}"#, "cannot be read"),
        (r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#, "twice"),
        (r#"{"weight_map":{},"weight_map":{}}"#, "duplicate field"),
        (r#"{"weight_map":{}} x"#, "cannot be read"),
        (deep.as_str(), "cannot be read"),
        (long.as_str(), "40000000 bytes"),
    ] {
        refused(&TWO, Some(index), "CHECKPOINT_CORRUPT", says);
    }
}
