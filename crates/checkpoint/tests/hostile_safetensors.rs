//! Safetensors files that lie are refused with the reason, and cost nothing.
mod common;

use common::*;

const CORRUPT: &str = "CHECKPOINT_CORRUPT";
const UNSUPPORTED: &str = "CHECKPOINT_UNSUPPORTED";

fn good() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]},
        "none":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]},
        "also_none":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}}"#;
    safetensors(header, &[0; 16])
}

fn header(header: &str, data: usize, code: &str, says: &str) {
    assert_refused("lie.safetensors", &safetensors(header, &vec![0; data]), code, says);
}

#[test]
fn the_honest_file_opens() {
    assert_eq!(open_one("good", good()).unwrap().tensors().len(), 4);
}

#[test]
fn every_truncation_is_refused() {
    let good = good();
    for len in 0..good.len() {
        assert_eq!(refusal("cut.safetensors", &good[..len]).code(), CORRUPT, "{len} bytes");
    }
}

#[test]
fn extra_bytes_are_refused() {
    let file = [good(), vec![0; 100]].concat();
    assert_refused("long.safetensors", &file, CORRUPT, "116 bytes of data; expected 16 bytes");
}

#[test]
fn header_lengths_that_lie() {
    let mut file = good();
    for (length, says) in [
        (0u64, "cannot be read"),
        (1, "cannot be read"),
        (100_000_000, "header length of 100000000 bytes in a file of"),
        (100_000_001, "at most 100000000 bytes"),
        (u64::from(u32::MAX), "at most 100000000 bytes"),
        (u64::MAX, "at most 100000000 bytes"),
        (u64::MAX - 7, "at most 100000000 bytes"),
    ] {
        file[..8].copy_from_slice(&length.to_le_bytes());
        assert_refused("length.safetensors", &file, CORRUPT, says);
    }
}

#[test]
fn offsets_that_lie() {
    let one = |offsets: &str| format!(r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
    header(&one("[0,8]"), 4, CORRUPT, "within the 4 bytes");
    header(&one("[8,16]"), 16, CORRUPT, "leaves a hole");
    header(&one("[0,4]"), 8, CORRUPT, "expected 8 bytes for shape [2] of F32");
    header(&one("[8,0]"), 8, CORRUPT, "expected 8 bytes");
    header(&one("[18446744073709551608,18446744073709551615]"), 8, CORRUPT, "tensor \"x\"");
    header(&one("[18446744073709551607,18446744073709551615]"), 8, CORRUPT, "tensor \"x\"");
    for offsets in ["[-1,7]", "[0]", "[0,8,8]", "[0,8.0]", "[0,18446744073709551616]", "null", "\"0,8\"", "{}"] {
        header(&one(offsets), 8, CORRUPT, "cannot be read (\"x\": ");
    }
}

#[test]
fn tensors_that_overlap_or_leave_holes() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    header(&two("[0,4]", "[0,4]"), 4, CORRUPT, "overlaps");
    header(&two("[0,4]", "[2,6]"), 6, CORRUPT, "overlaps");
    header(&two("[0,4]", "[5,9]"), 9, CORRUPT, "hole");
    header(&two("[0,4]", "[4,8]"), 9, CORRUPT, "9 bytes of data");
}

#[test]
fn names_that_occur_twice() {
    let x = r#""x":{"dtype":"U8","shape":[1],"data_offsets":"#;
    header(&format!("{{{x}[0,1]}},{x}[1,2]}}}}"), 2, CORRUPT, "the tensor twice");
    // The same name, written differently.
    header(&format!("{{{x}[0,1]}},{}[1,2]}}}}", x.replace('x', "\\u0078")), 2, CORRUPT, "twice");
    header(r#"{"x":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#, 1, CORRUPT, "duplicate field");
    header(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, CORRUPT, "twice");
    header(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0, CORRUPT, "\\\"a\\\" occurs twice".replace('\\', "").as_str());
}

#[test]
fn shapes_that_overflow() {
    let shaped = |shape: &str| format!(r#"{{"x":{{"dtype":"F64","shape":{shape},"data_offsets":[0,8]}}}}"#);
    for shape in [
        "[18446744073709551615]",
        "[4294967296,4294967296]",
        "[2305843009213693952]",
        "[9223372036854775808,2]",
        "[3037000500,3037000500,3037000500]",
    ] {
        header(&shaped(shape), 8, CORRUPT, "does not overflow");
    }
    header(&shaped("[1000000000000]"), 8, CORRUPT, "expected 8000000000000 bytes");
    header(&shaped("[-1]"), 8, CORRUPT, "cannot be read");
    header(&shaped("[1.5]"), 8, CORRUPT, "cannot be read");
    header(&shaped(&format!("[{}1]", "1,".repeat(1000))), 8, CORRUPT, "more than 32 dimensions");
}

#[test]
fn headers_that_are_not_headers() {
    for text in
        ["{", "{}}", "{\"x\":}", "{\"x\":1}", "{\"x\":{}}", "{\"x\":null}", "{x:1}", "{\"__metadata__\":{\"a\":1}}"]
    {
        header(text, 0, CORRUPT, "cannot be read");
    }
    header(r#"{"x":{"dtype":"F33","shape":[],"data_offsets":[0,4]}}"#, 4, UNSUPPORTED, "dtype F33");
    header(r#"{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1, UNSUPPORTED, "dtype F4");
    let file = [&9u64.to_le_bytes()[..], b"{\"\xff\":1}  "].concat();
    assert_refused("utf8.safetensors", &file, CORRUPT, "not UTF-8");
}

#[test]
fn deep_and_long_json_is_refused_without_recursion() {
    for opening in ["[", "{\"a\":"] {
        header(&format!("{{\"x\":{}", opening.repeat(1_000_000)), 0, CORRUPT, "cannot be read");
        header(&format!("{{\"x\":{{\"new\":{}", opening.repeat(1_000_000)), 0, CORRUPT, "cannot be read");
    }
    let long = format!(r#"{{"x":{{"dtype":"U8","shape":"{}","data_offsets":[0,1]}}}}"#, "y".repeat(1_000_000));
    header(&long, 1, CORRUPT, "cannot be read");
    let name = format!(r#"{{"{}":{{"dtype":"U8","shape":[2],"data_offsets":[0,1]}}}}"#, "n\\n".repeat(1_000_000));
    header(&name, 1, CORRUPT, "expected 2 bytes");
}

#[test]
fn more_tensors_than_any_model_has() {
    let entries: Vec<String> =
        (0..262_145).map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    header(&format!("{{{}}}", entries.join(",")), 0, CORRUPT, "more than 262144 tensors");
}

#[test]
fn files_of_other_kinds_are_named() {
    for (start, code, says) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"[..], CORRUPT, "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", CORRUPT, "web page"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", UNSUPPORTED, "HDF5"),
        (b"GGUF\x03\0\0\0\0\0\0\0", UNSUPPORTED, "GGUF"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0", UNSUPPORTED, "gzip"),
        (b"\x80\x02}q\0X\x01\0\0\0aK\x01s.", UNSUPPORTED, "plain pickle"),
        (&[0; 64], CORRUPT, "00 00 00"),
        (b"", CORRUPT, "found 0 bytes"),
    ] {
        assert_refused("model", start, code, says);
    }
}

#[test]
fn requests_outside_a_tensor_are_errors() {
    let checkpoint = open_one("good", good()).unwrap();
    let tensor = checkpoint.get("a").unwrap();
    let mut into = [0u8; 8];
    for (start, len) in [(1, 8), (8, 1), (u64::MAX, 1), (u64::MAX, 8), (9, 0)] {
        let error = checkpoint.read_bytes(tensor, start, &mut into[..len]).unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT", "{error}");
    }
    checkpoint.read_bytes(tensor, 8, &mut []).unwrap();
    for len in [0, 1, 3] {
        let error = checkpoint.read_f32(tensor, &mut vec![0.0; len]).unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT", "{error}");
    }
    assert_eq!(checkpoint.read(tensor, u64::MAX, &mut [0f32]).unwrap_err().code(), "INVALID_INPUT");
}

#[test]
fn tensors_of_another_checkpoint_are_errors() {
    let checkpoint = open_one("good", good()).unwrap();
    let mut foreign = checkpoint.get("a").unwrap().clone();
    foreign.file = 7;
    assert!(checkpoint.mapped(&foreign).is_none());
    assert_eq!(checkpoint.read_f32(&foreign, &mut [0.0; 2]).unwrap_err().code(), "INVALID_INPUT");
    foreign.file = 0;
    foreign.shape = vec![usize::MAX, 2];
    assert_eq!(checkpoint.read_bytes(&foreign, 0, &mut [0; 2]).unwrap_err().code(), "INVALID_INPUT");
    assert_eq!(checkpoint.read_i64(&foreign).unwrap_err().code(), "CHECKPOINT_UNSUPPORTED");
}

#[test]
fn a_host_that_cannot_read_is_reported() {
    struct Failing(Vec<u8>);
    impl switch_checkpoint::ByteSource for Failing {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), switch_checkpoint::SourceError> {
            if offset > 100 {
                return Err(switch_checkpoint::SourceError("the disk is gone".into()));
            }
            self.0.read_at(offset, into)
        }
    }
    let source = switch_checkpoint::NamedSource::new("gone", std::sync::Arc::new(Failing(good())));
    let checkpoint = switch_checkpoint::Checkpoint::open(vec![source], None).unwrap();
    let error = checkpoint.read_f32(checkpoint.get("a").unwrap(), &mut [0.0; 2]).unwrap_err();
    assert_eq!(error.code(), "FILE_READ");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}
