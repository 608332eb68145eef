//! Every storage form of real checkpoints is read, mapped or not, with the values that the reference wrote.
mod common;

use common::*;
use half::{bf16, f16};
use switch_checkpoint::{shard_names, Checkpoint, Dtype, Layout, NamedSource};

fn open(files: &[(String, Vec<u8>)], index: Option<&str>, source: fn(&str, Vec<u8>) -> NamedSource) -> Checkpoint {
    let files = files.iter().map(|(name, bytes)| source(name, bytes.clone())).collect();
    Checkpoint::open(files, index).unwrap()
}

/// All values of `torch_file` equal those of the safetensors file beside it.
fn assert_as_torch(torch_file: &str, expected: &str, source: fn(&str, Vec<u8>) -> NamedSource) {
    let file = bytes(format!("checkpoints/{torch_file}"));
    let checkpoint = Checkpoint::open(vec![source(torch_file, file)], None).unwrap();
    let expected = open_one(expected, bytes(format!("checkpoints/{expected}"))).unwrap();
    assert_eq!(checkpoint.tensors().len(), expected.tensors().len());
    for want in expected.tensors() {
        let got = checkpoint.get(&want.name).unwrap_or_else(|| panic!("{torch_file}: no {}", want.name));
        assert_eq!((got.dtype, &got.shape), (want.dtype, &want.shape), "{torch_file}: {}", want.name);
        let mut got_bytes = vec![0; got.bytes() as usize];
        let mut want_bytes = got_bytes.clone();
        checkpoint.read_bytes(got, 0, &mut got_bytes).unwrap();
        expected.read_bytes(want, 0, &mut want_bytes).unwrap();
        assert_eq!(got_bytes, want_bytes, "{torch_file}: {}", want.name);
    }
}

#[test]
fn torch_files_give_the_values_that_torch_reads() {
    for source in [mapped, unmapped] {
        for (file, expected) in [
            ("dtypes.bin", "dtypes.safetensors"),
            ("strided.bin", "strided.safetensors"),
            ("module.bin", "module.safetensors"),
            ("parameters.bin", "parameters.safetensors"),
            ("protocol-4.bin", "strided.safetensors"),
            ("protocol-5.bin", "strided.safetensors"),
            ("legacy-dtypes.bin", "dtypes.safetensors"),
            ("legacy-strided.bin", "strided.safetensors"),
            ("zip64.bin", "strided.safetensors"),
        ] {
            assert_as_torch(file, expected, source);
        }
    }
}

#[test]
fn any_part_of_a_strided_tensor_is_read() {
    for source in [mapped, unmapped] {
        let file = source("strided.bin", bytes("checkpoints/strided.bin"));
        let checkpoint = Checkpoint::open(vec![file], None).unwrap();
        for tensor in checkpoint.tensors() {
            let mut whole = vec![0; tensor.bytes() as usize];
            checkpoint.read_bytes(tensor, 0, &mut whole).unwrap();
            for start in 0..=whole.len() {
                for len in [0, 1, 3, 8, 17].into_iter().filter(|len| start + len <= whole.len()) {
                    let mut part = vec![0; len];
                    checkpoint.read_bytes(tensor, start as u64, &mut part).unwrap();
                    assert_eq!(part, whole[start..start + len], "{} from {start}", tensor.name);
                }
            }
        }
        let transposed = checkpoint.get("transposed").unwrap();
        assert!(matches!(&transposed.layout, Layout::Strided { strides, .. } if *strides == [1, 8]));
        assert!(checkpoint.mapped(transposed).is_none());
    }
}

#[test]
fn tied_tensors_share_their_bytes() {
    let checkpoint = open_one("strided.bin", bytes("checkpoints/strided.bin")).unwrap();
    assert_eq!(checkpoint.get("tied").unwrap().layout, checkpoint.get("tied_too").unwrap().layout);
}

#[test]
fn parity_checkpoints_open_whole_and_sharded() {
    for (case, dtype) in [
        ("pickle", Dtype::F32),
        ("sharded-pickle", Dtype::F32),
        ("sharded", Dtype::F32),
        ("bf16-weights", Dtype::Bf16),
        ("fp16-weights", Dtype::F16),
    ] {
        let (files, index) = parity(case);
        let in_place = open(&files, index.as_deref(), mapped);
        let read = open(&files, index.as_deref(), unmapped);
        assert_eq!(in_place.files().len(), files.len());
        assert!(in_place.tensors().len() > 20, "{case}");
        for tensor in in_place.tensors() {
            assert_eq!(tensor.dtype, dtype, "{case}: {}", tensor.name);
            let (a, b) = (f32s(&in_place, &tensor.name), f32s(&read, &tensor.name));
            assert_eq!(a, b);
            assert!(a.iter().all(|value| value.is_finite() && value.abs() < 100.0), "{case}: {}", tensor.name);
            assert!(read.mapped(tensor).is_none());
        }
        if let Some(index) = &index {
            let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(shard_names(index).unwrap(), names);
        }
    }
}

#[test]
fn parity_pickles_hold_what_torch_reads() {
    // First, last and summed values, as `torch.load` of torch 2 gave them.
    for (case, name, first, last, sum) in [
        ("pickle", "shared.weight", -0.000352579343598336, -0.23310570418834686, 14.887688852853898),
        ("pickle", "encoder.final_layer_norm.weight", 1.109250545501709, 0.9986608028411865, 32.52693575620651),
        ("sharded-pickle", "shared.weight", 0.4413851201534271, -0.08072264492511749, -25.6464507506862),
        (
            "sharded-pickle",
            "decoder.block.1.layer.2.mlp.experts.expert_3.wi.weight",
            0.1352740377187729,
            0.030159203335642815,
            4.9234486580244265,
        ),
    ] {
        let (files, index) = parity(case);
        let checkpoint = open(&files, index.as_deref(), mapped);
        assert_eq!(checkpoint.tensors().len(), 120);
        // torch aligns storages, so that mapped pickles are used in place as well.
        assert!(checkpoint.tensors().all(|tensor| tensor.layout.offset() % 64 == 0));
        let values: Vec<f64> = f32s(&checkpoint, name).into_iter().map(f64::from).collect();
        assert_eq!((values[0], *values.last().unwrap()), (first, last), "{case}: {name}");
        assert!((values.iter().sum::<f64>() - sum).abs() < 1e-9, "{case}: {name}");
    }
}

#[test]
fn mapped_bytes_are_the_tensor_and_outlive_the_checkpoint() {
    let (files, _) = parity("bf16-weights");
    let checkpoint = open(&files, None, mapped);
    let name = "shared.weight";
    let want = f32s(&checkpoint, name);
    let tensor = checkpoint.get(name).unwrap();
    let handle = checkpoint.mapped(tensor).unwrap();
    assert_eq!(handle.len() as u64, tensor.bytes());
    drop(checkpoint);
    let halves: &[bf16] = bytemuck::cast_slice(handle.as_slice());
    assert_eq!(halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(), want);
}

#[test]
fn values_convert_between_the_float_types_and_integers_to_i64() {
    let checkpoint = open_one("dtypes.safetensors", bytes("checkpoints/dtypes.safetensors")).unwrap();
    let f32_values = f32s(&checkpoint, "f32");
    let tensor = checkpoint.get("f32").unwrap();
    let mut halves = vec![f16::ZERO; f32_values.len()];
    checkpoint.read_f16(tensor, &mut halves).unwrap();
    assert_eq!(halves, f32_values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
    let mut brains = vec![bf16::ZERO; f32_values.len()];
    checkpoint.read_bf16(tensor, &mut brains).unwrap();
    assert_eq!(brains, f32_values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>());
    let mut part = vec![0.0f32; 3];
    checkpoint.read(tensor, 4, &mut part).unwrap();
    assert_eq!(part, f32_values[4..7]);

    assert_eq!(f32s(&checkpoint, "scalar"), [2.5]);
    assert_eq!(f32s(&checkpoint, "bool"), [1.0, 0.0, 1.0]);
    assert!(f32s(&checkpoint, "empty").is_empty());
    let ints = |name: &str| checkpoint.read_i64(checkpoint.get(name).unwrap());
    assert_eq!(ints("i64").unwrap(), [0, -1, 1 << 40, -(1 << 62)]);
    assert_eq!(ints("i32").unwrap(), [0, -1, 1 << 30]);
    assert_eq!(ints("i16").unwrap(), [-300, 300]);
    assert_eq!(ints("i8").unwrap(), [-128, 127]);
    assert_eq!(ints("u8").unwrap(), [0, 255]);
    assert_eq!(ints("bool").unwrap(), [1, 0, 1]);
    assert_eq!(ints("f32").unwrap_err().code(), "CHECKPOINT_UNSUPPORTED");
}

#[test]
fn long_tensors_convert_across_chunks() {
    // Longer than what is converted at a time, and not a multiple of it.
    let values: Vec<f64> = (0..50_001).map(|i| f64::from(i) * 0.5 - 1e4).collect();
    let header = format!(r#"{{"x":{{"dtype":"F64","shape":[50001],"data_offsets":[0,{}]}}}}"#, values.len() * 8);
    for source in [mapped, unmapped] {
        let file = source("x.safetensors", safetensors(&header, bytemuck::cast_slice(&values)));
        let checkpoint = Checkpoint::open(vec![file], None).unwrap();
        assert_eq!(f32s(&checkpoint, "x"), values.iter().map(|&x| x as f32).collect::<Vec<_>>());
    }
}

#[test]
fn unaligned_tensors_are_read_instead_of_used_in_place() {
    let header = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let aligned = (8 + header.len()).next_multiple_of(4);
    for pad in 0..4 {
        let header = format!("{header:width$}", width = aligned - 8 + pad);
        let values = [1.5f32, -2.5];
        let checkpoint = open_one("x", safetensors(&header, bytemuck::cast_slice(&values))).unwrap();
        let tensor = checkpoint.get("x").unwrap();
        assert_eq!(f32s(&checkpoint, "x"), values);
        if let Some(bytes) = checkpoint.mapped(tensor) {
            assert_eq!(bytemuck::cast_slice::<u8, f32>(bytes.as_slice()), values);
            assert_eq!(pad, 0);
        }
    }
}

#[test]
fn metadata_and_absent_names() {
    let (files, _) = parity("bf16-weights");
    let checkpoint = open(&files, None, mapped);
    assert_eq!(checkpoint.metadata().get("format").map(String::as_str), Some("pt"));
    assert!(checkpoint.get("no.such.tensor").is_none());
    assert_eq!(open_one("empty", safetensors("{}", b"")).unwrap().tensors().len(), 0);
}

#[test]
fn a_long_strided_tensor_is_read_through_a_window() {
    use common::zip::{entry, state_dict, storage, tensor, zip};
    // 72 MB: more than is read at once of a file that is not mapped.
    let (rows, columns) = (6_000_000usize, 3usize);
    let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let shape = [columns as i64, rows as i64];
    let strides = [1, columns as i64];
    let pickle = state_dict(&[("w", tensor(storage("0", values.len() as i64), 0, &shape, &strides))]);
    let file = zip(&[entry("m/data.pkl", &pickle), entry("m/data/0", bytemuck::cast_slice(&values))]);
    let checkpoint = Checkpoint::open(vec![unmapped("long.bin", file)], None).unwrap();
    let info = checkpoint.get("w").unwrap();
    for first in [0, rows - 2, 2 * rows - 500, 3 * rows - 1000] {
        let mut part = vec![0f32; 1000];
        checkpoint.read(info, first as u64, &mut part).unwrap();
        let want = (first..first + 1000).map(|i| values[i % rows * columns + i / rows]);
        assert!(part.into_iter().eq(want), "from {first}");
    }
}
