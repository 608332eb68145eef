//! Torch files that lie, bomb or call are refused with the reason, and nothing is executed.
mod common;

use common::zip::*;
use common::*;

const CORRUPT: &str = "CHECKPOINT_CORRUPT";
const UNSAFE: &str = "CHECKPOINT_UNSAFE";
const UNSUPPORTED: &str = "CHECKPOINT_UNSUPPORTED";

fn pickle(pickle: &[u8], code: &str, says: &str) {
    assert_refused("model.bin", &torch(pickle), code, says);
}

#[test]
fn the_honest_file_opens() {
    let checkpoint = open_one("model.bin", torch(&honest())).unwrap();
    assert_eq!(f32s(&checkpoint, "w"), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn every_truncation_is_refused() {
    for (name, file) in [
        ("small", torch(&honest())),
        ("zip64", bytes("checkpoints/zip64.bin")),
        ("legacy", bytes("checkpoints/legacy-strided.bin")),
    ] {
        for len in 0..file.len() {
            let error = refusal(name, &file[..len]);
            assert!([CORRUPT, UNSUPPORTED].contains(&error.code()), "{len} bytes: {error}");
            assert!(len < 15 || error.code() == CORRUPT, "{len} bytes: {error}");
        }
    }
}

#[test]
fn globals_that_could_do_harm() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch", "FloatStorage.__init__"),
        ("torch.serialization", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("collections", "OrderedDict.fromkeys"),
        ("", ""),
    ] {
        let called = [format!("\x02c{module}\n{name}\n").as_bytes(), &tuple(&[text("id")]), b"R."].concat();
        let called = [&[0x80], &called[..]].concat();
        pickle(&called, UNSAFE, &format!("the forbidden global {module}.{name} at byte 2"));
        let stacked = [b"\x80\x04".to_vec(), text(module), text(name), b"\x93)R.".to_vec()].concat();
        pickle(&stacked, UNSAFE, &format!("the forbidden global {module}.{name}"));
    }
}

#[test]
fn opcodes_that_could_do_harm() {
    for (code, says) in [
        (&b"\x80\x02(S'id'\nios\nsystem\n."[..], "0x53 (STRING) at byte 3"),
        (b"\x80\x02(ios\nsystem\n.", "0x69 (INST) at byte 3"),
        (b"\x80\x02(cos\nsystem\no.", "global os.system at byte 3"),
        (b"\x80\x02(o.", "0x6f (OBJ) at byte 3"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81 (NEWOBJ)"),
        (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "0x92 (NEWOBJ_EX)"),
        (b"\x80\x02\x82\x01.", "0x82 (EXT1)"),
        (b"\x80\x02Pid\n.", "0x50 (PERSID)"),
        (b"\x80\x02\xff.", "0xff"),
        (b"\x80\x05\x97.", "0x97 (NEXT_BUFFER)"),
    ] {
        pickle(code, UNSAFE, says);
    }
}

#[test]
fn calls_of_what_was_built() {
    pickle(b"\x80\x02})R.", UNSAFE, "a call of a dict");
    pickle(&[b"\x80\x02".to_vec(), text("os.system"), b")R.".to_vec()].concat(), UNSAFE, "a call of a str");
    pickle(b"\x80\x02ctorch\nFloatStorage\n)R.", UNSAFE, "a call of a storage class");
    pickle(b"\x80\x02ccollections\nOrderedDict\n}b.", UNSAFE, "on a class or function");
    pickle(
        &[b"\x80\x02".to_vec(), tensor(storage("0", 4), 0, &[4], &[1]), b"}b.".to_vec()].concat(),
        UNSAFE,
        "on a tensor",
    );
    let module = tuple(&[text("module"), text("a"), text("b"), text("c"), int(1)]);
    pickle(&[b"\x80\x02".to_vec(), module, b"Q.".to_vec()].concat(), UNSAFE, "persistent id that is not a storage");
}

#[test]
fn damaged_pickles() {
    for (code, says) in [
        (&b""[..], "the end of the pickle"),
        (b".", "an empty stack"),
        (b"\x80\x02", "the end of the pickle"),
        (b"\x80\x02u.", "no mark"),
        (b"\x80\x02t.", "no mark"),
        (b"\x80\x02}(\x85.", "an empty stack"),
        (b"\x80\x02}(Nu.", "a key without a value"),
        (b"\x80\x02](NNu.", "a dict"),
        (b"\x80\x02}(NNe.", "a list"),
        (b"\x80\x02h\x00.", "memo 0"),
        (b"\x80\x02j\xff\xff\xff\xff.", "memo 4294967295"),
        (b"\x80\x02q\x00.", "an empty stack"),
        (b"\x80\x02R.", "an empty stack"),
        (b"\x80\x02\x93.", "an empty stack"),
        (b"\x80\x04NN\x93.", "not text"),
        (b"\x80\x02Q.", "an empty stack"),
        (b"\x80\x02NQ.", "persistent id"),
        (b"\x80\x02)Q.", "persistent id"),
        (b"\x80\x02X\xff\xff\xff\xff.", "the end of the pickle"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "the end of the pickle"),
        (b"\x80\x02X\x01\0\0\0\xff.", "not UTF-8"),
        (b"\x80\x02\x8a\xff.", "the end of the pickle"),
        (b"\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\x01.", "an integer of 9 bytes"),
        (b"\x80\x02ccollections\nOrderedDict", "a name without an end"),
    ] {
        let error = refusal("model.bin", &torch(code));
        assert_eq!(error.code(), CORRUPT, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    pickle(&[b"\x80\x02c".to_vec(), vec![b'a'; 100_000], b"\n\n.".to_vec()].concat(), CORRUPT, "a name without an end");
    pickle(b"\x80\x00}.", UNSUPPORTED, "protocol 0");
    pickle(b"\x80\x06}.", UNSUPPORTED, "protocol 6");
}

#[test]
fn nesting_and_repetition_cost_no_stack_and_little_memory() {
    // Nested a million deep, in several ways; dropped again, too.
    let deep = 1_000_000;
    pickle(
        &[b"\x80\x02".to_vec(), vec![b']'; deep], vec![b'a'; deep - 1], b".".to_vec()].concat(),
        UNSUPPORTED,
        "a list",
    );
    pickle(&[b"\x80\x02)".to_vec(), vec![0x85; deep], b".".to_vec()].concat(), UNSUPPORTED, "a tuple");
    pickle(&[b"\x80\x02".to_vec(), vec![b'('; 2_000_000], b".".to_vec()].concat(), UNSUPPORTED, "marks");
    pickle(&[b"\x80\x02".to_vec(), vec![b'N'; 2_000_000], b".".to_vec()].concat(), UNSUPPORTED, "values on the stack");
    pickle(&[b"\x80\x02)".to_vec(), vec![0x85; 2_000_000], b".".to_vec()].concat(), UNSUPPORTED, "containers");
    pickle(&[b"\x80\x04N".to_vec(), vec![0x94; 2_000_000], b".".to_vec()].concat(), UNSUPPORTED, "memo entries");
    pickle(&[b"\x80\x02N".to_vec(), b"q\x01".repeat(9_000_000), b".".to_vec()].concat(), UNSUPPORTED, "opcodes");
    // A list within itself, and one that doubles with each step.
    pickle(b"\x80\x02]q\x00h\x00a.", UNSUPPORTED, "a list");
    pickle(
        &[b"\x80\x02)q\x00".to_vec(), b"h\x00\x86q\x00h\x00".repeat(100), b"t.".to_vec()].concat(),
        CORRUPT,
        "no mark",
    );
    let laughs: Vec<u8> = (0..100u8).flat_map(|_| *b"q\x00h\x00\x86").collect();
    pickle(&[b"\x80\x02)".to_vec(), laughs, b".".to_vec()].concat(), UNSUPPORTED, "a tuple in the pickle");
    // A memo number is a key, not a length.
    let far = [b"\x80\x02}r\xff\xff\xff\xff".to_vec(), b".".to_vec()].concat();
    assert_eq!(open_one("far", torch(&far)).unwrap().tensors().len(), 0);
}

#[test]
fn what_is_not_a_state_dict() {
    pickle(b"\x80\x02].", UNSUPPORTED, "a list in the pickle");
    pickle(b"\x80\x02N.", UNSUPPORTED, "None in the pickle");
    pickle(b"\x80\x02ccollections\nOrderedDict\n.", UNSUPPORTED, "a class or function in the pickle");
    pickle(
        &tensor(storage("0", 4), 0, &[4], &[1]).into_iter().chain(*b".").collect::<Vec<_>>(),
        UNSUPPORTED,
        "a tensor in",
    );
    pickle(&state_dict(&[("epoch", int(3))]), UNSUPPORTED, "an int as the value of \"epoch\"");
    pickle(&state_dict(&[("state_dict", b"}".to_vec())]), UNSUPPORTED, "a dict as the value of \"state_dict\"");
    pickle(b"\x80\x02}K\x01Ns.", UNSUPPORTED, "an int as a key");
    let twice = [("w", tensor(storage("0", 4), 0, &[4], &[1])), ("w", tensor(storage("0", 4), 0, &[4], &[1]))];
    pickle(&state_dict(&twice), CORRUPT, "tensor \"w\": found the tensor twice");
    assert_refused("list.bin", &bytes("checkpoints/list.bin"), UNSUPPORTED, "a list in the pickle");
    let file = bytes("checkpoints/not-only-tensors.bin");
    assert_refused("not-only-tensors.bin", &file, UNSUPPORTED, "an int as the value of \"epoch\"");
}

#[test]
fn tensors_that_leave_their_storage() {
    let max = i64::MAX;
    for (offset, size, stride) in [
        (0, &[5][..], &[1][..]),
        (1, &[4], &[1]),
        (4, &[1], &[1]),
        (max, &[1], &[1]),
        (0, &[2, 2], &[3, 1]),
        (0, &[2], &[max]),
        (0, &[3], &[max]),
        (0, &[max], &[0]),
        (0, &[max], &[1]),
        (0, &[max, max], &[0, 0]),
        (0, &[1 << 21], &[0]),
        (0, &[2, -2], &[2, 1]),
        (0, &[2, 2], &[-2, 1]),
        (-1, &[2], &[1]),
        (0, &[2, 2], &[1]),
        (0, &[2], &[1, 1]),
        (0, &[1; 33], &[1; 33]),
    ] {
        let error = refusal("model.bin", &torch(&state_dict(&[("w", tensor(storage("0", 4), offset, size, stride))])));
        assert!([CORRUPT, UNSUPPORTED].contains(&error.code()), "{offset} {size:?} {stride:?}: {error}");
        assert!(offset < 0 || error.to_string().contains("tensor \"w\""), "{error}");
    }
}

#[test]
fn tensors_that_share_one_storage_beyond_measure() {
    // One megabyte, a hundred times over, in a file of one megabyte.
    let of = |names: usize| {
        let shared = tensor(storage("0", 1 << 18), 0, &[1 << 18], &[1]);
        let names: Vec<String> = (0..names).map(|i| i.to_string()).collect();
        let entries: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), shared.clone())).collect();
        zip(&[entry("m/data.pkl", &state_dict(&entries)), entry("m/data/0", &vec![0; 1 << 20])])
    };
    assert_eq!(open_one("tied.bin", of(50)).unwrap().tensors().len(), 50);
    assert_refused("bomb.bin", &of(100), UNSUPPORTED, "tensors of 104857600 bytes");
}

#[test]
fn storages_that_lie() {
    let of = |storage| state_dict(&[("w", tensor(storage, 0, &[1], &[1]))]);
    pickle(&of(storage("1", 4)), CORRUPT, "no storage \"1\"");
    pickle(&of(storage("../data.pkl", 4)), CORRUPT, "no storage");
    pickle(&of(storage("0", 5)), CORRUPT, "a storage of 16 bytes; expected 5 elements");
    pickle(&of(storage("0", i64::MAX)), CORRUPT, "a storage of 16 bytes");
    pickle(&of(storage("0", -1)), CORRUPT, "persistent id");
    pickle(&of(storage(&"k".repeat(10_000), 4)), CORRUPT, "persistent id");
    pickle(&of(b"N".to_vec()), CORRUPT, "wrong kinds");
    let of_class = |class: &str| {
        let id = tuple(&[text("storage"), format!("c{class}\n").into_bytes(), text("0"), text("cpu"), int(2)]);
        of([id, b"Q".to_vec()].concat())
    };
    pickle(&of_class("torch\nComplexFloatStorage"), UNSUPPORTED, "complex or quantised");
    pickle(&of_class("collections\nOrderedDict"), CORRUPT, "persistent id");
    pickle(&of_class("torch\nEvilStorage"), UNSAFE, "global torch.EvilStorage");
}

#[test]
fn archives_that_lie() {
    let with = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = torch_entries(&honest());
        change(&mut entries);
        zip(&entries)
    };
    let refused = |change: &dyn Fn(&mut Vec<Entry>), code: &str, says: &str| {
        assert_refused("model.bin", &with(change), code, says);
    };
    refused(&|e| e[2].method = 8, UNSUPPORTED, "compression method 8");
    refused(&|e| e[0].method = 8, UNSUPPORTED, "compression method 8");
    refused(&|e| e[0].flags = 1, UNSUPPORTED, "encryption");
    refused(&|e| e[2].size = 17, CORRUPT, "run past the entries");
    refused(&|e| e[2].size = u32::MAX - 1, CORRUPT, "run past the entries");
    refused(&|e| e[2].size = u32::MAX, CORRUPT, "run past the entries");
    refused(&|e| e[0].size = 100_000_000, UNSUPPORTED, "a pickle of 100000000 bytes");
    refused(&|e| e[2].at = Some(0), CORRUPT, "another name");
    refused(&|e| e[2].at = Some(7), CORRUPT, "no local header");
    refused(&|e| e[2].at = Some(u32::MAX - 1), CORRUPT, "an offset outside the file");
    refused(&|e| e[2].local_name = "m/data/1".into(), CORRUPT, "another name");
    refused(&|e| e[1].data = b"big".to_vec(), CORRUPT, "byte order");
    refused(
        &|e| {
            e[1].data = b"big".to_vec();
            e[1].size = 3;
        },
        UNSUPPORTED,
        "big-endian",
    );
    refused(&|e| e.push(e[2].clone()), CORRUPT, "the entry \"m/data/0\" twice");
    refused(&|e| drop(e.remove(0)), UNSUPPORTED, "without data.pkl");
    refused(&|e| e.push(entry("n/data.pkl", b"")), UNSUPPORTED, "several data.pkl");
    refused(&|e| e.push(entry("m/constants.pkl", b"")), UNSUPPORTED, "TorchScript");
    refused(&|e| e.clear(), UNSUPPORTED, "without data.pkl");
    assert_refused("deflated.bin", &bytes("checkpoints/deflated.bin"), UNSUPPORTED, "compression method 8");
    let mut file = torch(&honest());
    file.push(0);
    assert_refused("longer.bin", &file, CORRUPT, "without its end");
}

#[test]
fn entries_that_share_their_bytes() {
    // An entry whose data is another whole entry, claimed by both.
    let inner = zip(&[entry("m/data/1", &[0; 8])]);
    let local = &inner[..30 + 8 + 8];
    let of = |key: &str, elements| tensor(storage(key, elements), 0, &[1], &[1]);
    let pickle = state_dict(&[("a", of("0", 11)), ("b", of("1", 2))]);
    let mut entries = torch_entries(&pickle);
    entries[2] = entry("m/data/0", local);
    let before = zip(&entries[..2]);
    let directory = before.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let mut shared = entry("m/data/1", &[]);
    shared.size = 8;
    shared.at = Some((directory + 30 + 8) as u32);
    entries.push(shared);
    assert_refused("bomb.bin", &zip(&entries), CORRUPT, "overlap");
}

#[test]
fn zip64_records_that_lie() {
    let good = bytes("checkpoints/zip64.bin");
    assert!(open_one("zip64.bin", good.clone()).is_ok());
    let record = good.windows(4).rposition(|bytes| bytes == b"PK\x06\x06").unwrap();
    let locator = good.windows(4).rposition(|bytes| bytes == b"PK\x06\x07").unwrap();
    for (at, name) in
        [(record + 32, "count"), (record + 40, "length"), (record + 48, "offset"), (locator + 8, "record")]
    {
        for value in [0, 1, u64::from(u32::MAX), u64::MAX, u64::MAX - 100, 1 << 63] {
            let mut file = good.clone();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert_eq!(refusal("zip64.bin", &file).code(), CORRUPT, "{name} {value}");
        }
    }
}

#[test]
fn legacy_files_that_lie() {
    let good = bytes("checkpoints/legacy-dtypes.bin");
    let mut longer = good.clone();
    longer.extend([0; 9]);
    assert_refused("legacy.bin", &longer, CORRUPT, "9 bytes after the last storage");
    for value in [u64::MAX, 1 << 62, 1 << 40, 3] {
        let at = good.len() - storage_tail(&good);
        let mut file = good.clone();
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert_eq!(refusal("legacy.bin", &file).code(), CORRUPT, "{value}");
    }
    let mut file = good.clone();
    let at = file.windows(13).position(|bytes| bytes == b"little_endian").unwrap();
    let at = at + file[at..].iter().position(|&byte| byte == 0x88).unwrap();
    file[at] = 0x89;
    assert_refused("legacy.bin", &file, UNSUPPORTED, "big-endian");
}

/// Bytes from the first storage's length to the end of the legacy fixture: lengths and data of all its storages.
fn storage_tail(file: &[u8]) -> usize {
    let checkpoint = open_one("legacy.bin", file.to_vec()).unwrap();
    let first = checkpoint.tensors().filter(|tensor| tensor.bytes() > 0).map(|tensor| tensor.layout.offset()).min();
    file.len() - (first.unwrap() as usize - 8)
}
