//! What a plan writes is what was asked, is what the reference writes, and reads back.
mod common;

use std::collections::BTreeMap;

use common::*;
use switch_checkpoint::{Checkpoint, CheckpointError, Dtype, SavePlan, SaveTensor, TensorInfo};

fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> SaveTensor {
    SaveTensor { name: name.into(), dtype, shape: shape.into() }
}

/// A plan's files, read in pieces of `piece` bytes.
fn write(plan: &SavePlan, from: &Checkpoint, piece: usize) -> Vec<(String, Vec<u8>)> {
    let mut tensor_bytes = |name: &str, start: u64, into: &mut [u8]| {
        assert!(!into.is_empty());
        from.read_bytes(from.get(name).unwrap(), start, into)
    };
    let mut files = vec![];
    for (number, file) in plan.files.iter().enumerate() {
        let mut bytes = vec![0xee; file.size as usize];
        for (i, part) in bytes.chunks_mut(piece).enumerate() {
            plan.read(number, (i * piece) as u64, part, &mut tensor_bytes).unwrap();
        }
        files.push((file.name.clone(), bytes));
    }
    files
}

fn plan_of(checkpoint: &Checkpoint, max: u64) -> SavePlan {
    let tensors: Vec<SaveTensor> =
        checkpoint.tensors().map(|info| tensor(&info.name, info.dtype, &info.shape)).collect();
    SavePlan::new(&tensors, max, &BTreeMap::new()).unwrap()
}

#[test]
fn a_saved_checkpoint_is_the_reference_s_file_byte_for_byte() {
    for case in ["bf16-weights", "fp16-weights"] {
        let (files, _) = parity(case);
        let (name, reference) = &files[0];
        let checkpoint = open_one(name, reference.clone()).unwrap();
        let plan = plan_of(&checkpoint, u64::MAX);
        assert_eq!((plan.files.len(), &plan.index), (1, &None));
        for piece in [1000, 1 << 20] {
            let written = write(&plan, &checkpoint, piece);
            assert_eq!(written[0].0, *name);
            assert!(written[0].1 == *reference, "{case} in pieces of {piece}");
        }
    }
}

#[test]
fn a_saved_sharded_checkpoint_is_the_reference_s_too() {
    let (files, index) = parity("sharded");
    let sources = files.iter().map(|(name, bytes)| mapped(name, bytes.clone())).collect();
    let checkpoint = Checkpoint::open(sources, index.as_deref()).unwrap();
    // The order in which the reference came to its shards is lost within them. Largest first leads to the same: what
    // did not fit the shard before, no larger tensor fits either.
    let mut tensors: Vec<&TensorInfo> = checkpoint.tensors().collect();
    tensors.sort_by_key(|tensor| (tensor.file, std::cmp::Reverse(tensor.bytes())));
    let tensors: Vec<SaveTensor> = tensors.iter().map(|info| tensor(&info.name, info.dtype, &info.shape)).collect();
    let plan = SavePlan::new(&tensors, 60_000, &BTreeMap::new()).unwrap();
    assert!(write(&plan, &checkpoint, 4096) == files);
    assert_eq!(plan.index, index);
    assert_eq!(plan.total_size, 463_616);
}

#[test]
fn pieces_of_any_size_give_the_same_bytes() {
    let checkpoint = open_one("dtypes.safetensors", bytes("checkpoints/dtypes.safetensors")).unwrap();
    for max in [u64::MAX, 64, 1, 0] {
        let plan = plan_of(&checkpoint, max);
        let whole = write(&plan, &checkpoint, 1 << 20);
        for piece in [1, 7, 8, 64] {
            assert_eq!(write(&plan, &checkpoint, piece), whole);
        }
        let sources = whole.iter().map(|(name, bytes)| mapped(name, bytes.clone())).collect();
        let again = Checkpoint::open(sources, plan.index.as_deref()).unwrap();
        assert_eq!(again.tensors().len(), checkpoint.tensors().len());
        for want in checkpoint.tensors() {
            let got = again.get(&want.name).unwrap();
            assert_eq!((got.dtype, &got.shape), (want.dtype, &want.shape));
            assert_eq!(f32s(&again, &want.name), f32s(&checkpoint, &want.name));
        }
    }
}

#[test]
fn shards_are_cut_and_named_as_in_the_reference() {
    let tensors: Vec<SaveTensor> =
        [6, 2, 6, 2, 2, 20].iter().enumerate().map(|(i, &n)| tensor(&format!("t{i}"), Dtype::U8, &[n])).collect();
    let plan = SavePlan::new(&tensors, 10, &BTreeMap::new()).unwrap();
    let shards: Vec<(&str, Vec<&str>)> = plan
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.tensors.iter().map(|planned| planned.tensor.name.as_str()).collect()))
        .collect();
    assert_eq!(
        shards,
        [
            ("model-00001-of-00003.safetensors", vec!["t0", "t1"]),
            ("model-00002-of-00003.safetensors", vec!["t5"]),
            ("model-00003-of-00003.safetensors", vec!["t2", "t3", "t4"]),
        ]
    );
    assert!(plan
        .index
        .unwrap()
        .starts_with("{\n  \"metadata\": {\n    \"total_parameters\": 38,\n    \"total_size\": 38\n  },\n"));
}

#[test]
fn tensors_are_aligned_in_the_file() {
    let plan = SavePlan::new(
        &[tensor("a", Dtype::U8, &[3]), tensor("b", Dtype::F64, &[1]), tensor("c", Dtype::Bf16, &[5])],
        u64::MAX,
        &BTreeMap::from([("format".into(), "np".into()), ("note".into(), "é \"quoted\"".into())]),
    )
    .unwrap();
    for planned in &plan.files[0].tensors {
        assert_eq!(planned.offset % planned.tensor.dtype.size() as u64, 0, "{}", planned.tensor.name);
    }
    let mut file = vec![0; plan.files[0].size as usize];
    plan.read(0, 0, &mut file, &mut |_, _, into| {
        into.fill(7);
        Ok(())
    })
    .unwrap();
    let checkpoint = open_one("m", file).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "np");
    assert_eq!(checkpoint.metadata()["note"], "é \"quoted\"");
}

#[test]
fn a_model_larger_than_memory_is_planned_and_read_in_part() {
    // 100 tensors of 1 TiB: nothing of that size is ever allocated.
    let tensors: Vec<SaveTensor> =
        (0..100).map(|i| tensor(&format!("expert_{i:03}"), Dtype::F32, &[1 << 19, 1 << 19])).collect();
    let plan = SavePlan::new(&tensors, u64::MAX, &BTreeMap::new()).unwrap();
    assert_eq!(plan.total_size, 100 << 40);
    let file = &plan.files[0];
    let mut asked = vec![];
    let mut into = [0; 16];
    plan.read(0, file.tensors[57].offset - 6, &mut into, &mut |name, start, into| {
        asked.push((name.to_owned(), start, into.len()));
        Ok(())
    })
    .unwrap();
    assert_eq!(asked, [("expert_056".to_owned(), (1 << 40) - 6, 6), ("expert_057".to_owned(), 0, 10)]);
}

#[test]
fn plans_that_cannot_be() {
    let refused = |tensors: &[SaveTensor], says: &str| {
        let error = SavePlan::new(tensors, u64::MAX, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT");
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(&[tensor("a", Dtype::U8, &[1]), tensor("a", Dtype::U8, &[1])], "the tensor twice");
    refused(&[tensor("__metadata__", Dtype::U8, &[1])], "reserved");
    refused(&[tensor("a", Dtype::F64, &[1 << 61])], "overflows");
    refused(&[tensor("a", Dtype::U8, &[1 << 62, 4])], "overflows");
    refused(&[tensor("a", Dtype::U8, &[1 << 63]), tensor("b", Dtype::U8, &[1 << 63])], "overflows");
    refused(&[tensor("a", Dtype::U8, &[1; 33])], "33 dimensions");
}

#[test]
fn reads_outside_a_plan_and_failures_of_the_host() {
    let plan = SavePlan::new(&[tensor("a", Dtype::U8, &[4])], u64::MAX, &BTreeMap::new()).unwrap();
    let size = plan.files[0].size;
    let mut zeros = |_: &str, _: u64, _: &mut [u8]| Ok(());
    for (file, offset, len) in [(1, 0, 1), (0, size, 1), (0, size - 1, 2), (0, u64::MAX, 1), (0, size + 1, 0)] {
        let error = plan.read(file, offset, &mut vec![0; len], &mut zeros).unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT", "{error}");
    }
    plan.read(0, size, &mut [], &mut zeros).unwrap();
    let lost = CheckpointError::FileRead(Default::default());
    let error = plan.read(0, 0, &mut vec![0; size as usize], &mut |_, _, _| Err(lost.clone())).unwrap_err();
    assert_eq!(error, lost);
    let empty = SavePlan::new(&[], 1, &BTreeMap::new()).unwrap();
    assert_eq!(empty.files.len(), 1);
}
