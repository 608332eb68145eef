//! What `torch.save` wrote before version 1.6, and still does on request: five pickles (a magic number, a version,
//! facts about the machine, the state dict, the storages' keys), then each storage after its number of elements.
use std::borrow::Cow;
use std::collections::HashMap;

use super::pickle_error;
use super::place::{place, StorageRange};
use crate::error::CheckpointError;
use crate::limits;
use crate::pickle::{self, FaultKind, Finished, PickleFault, PickledTensor, Value};
use crate::source::NamedSource;
use crate::tensor::TensorInfo;

/// Bytes that [`is_legacy`] needs.
pub const MAGIC_BYTES: usize = 15;
/// The pickle of 0x1950a86a20f9469cfc6c, after its protocol.
const MAGIC: [u8; 13] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
const VERSION: i64 = 1001;
/// What is first read of a file that is not mapped; more is read while it is not enough.
const FIRST_READ: u64 = 1 << 20;

/// Whether a file that starts with these bytes is in this format.
pub fn is_legacy(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, rest @ ..] if rest.starts_with(&MAGIC))
}

/// Reads the file in `source`, the checkpoint's file number `file`.
pub fn open(source: &NamedSource, file: usize) -> Result<Vec<TensorInfo>, CheckpointError> {
    let size = source.bytes.size();
    let most = size.min(limits::PICKLE_BYTES);
    let mut len = if source.bytes.mapped().is_some() { most } else { most.min(FIRST_READ) };
    let (bytes, pickles) = loop {
        let bytes = source.slice(0, len)?;
        match Pickles::read(&bytes) {
            Err(fault) if fault.kind == FaultKind::Truncated && len < most => len = most.min(len * 4),
            Err(fault) => return Err(pickle_error(source, fault)),
            Ok(pickles) => break (bytes, pickles),
        }
    };
    let bytes: &Cow<[u8]> = &bytes;
    let wrong = |found: &str, expected: &str| source.fault(found, expected).corrupt();
    if !matches!(pickles.version.value, Value::Int(VERSION)) {
        return Err(wrong("an unknown version of the legacy torch format", "1001"));
    }
    if pickle::entry(bytes, &pickles.machine, "little_endian") == Some(Value::Bool(false)) {
        return Err(source
            .fault("big-endian values", "little-endian values")
            .advice("Load the checkpoint on the machine that wrote it and save it as safetensors")
            .unsupported());
    }
    let pickled = pickle::tensors(source, bytes, &pickles.state_dict)?;
    let keys =
        pickle::storage_keys(bytes, &pickles.keys).ok_or_else(|| wrong("damaged storage keys", "a list of them"))?;
    let ranges = storage_ranges(source, &pickled, &keys, pickles.keys.end as u64)?;
    pickled
        .into_iter()
        .map(|tensor| match ranges.get(tensor.storage.key) {
            Some(range) => place(source, file, tensor, *range),
            None => Err(source.fault("no storage for it", "one for every tensor").tensor(tensor.name).corrupt()),
        })
        .collect()
}

/// Where each storage lies: in the order of the keys from byte `at`, each after its number of elements.
fn storage_ranges<'a>(
    source: &NamedSource,
    pickled: &[PickledTensor],
    keys: &[&'a str],
    mut at: u64,
) -> Result<HashMap<&'a str, StorageRange>, CheckpointError> {
    let sizes: HashMap<&str, u64> =
        pickled.iter().map(|tensor| (tensor.storage.key, tensor.storage.dtype.size() as u64)).collect();
    let mut ranges = HashMap::new();
    for &key in keys {
        let corrupt = |found: String| source.fault(found, "a storage for each key, within the file").corrupt();
        let Some(element) = sizes.get(key) else {
            // Its element size is unknown, so that what follows could not be found.
            return Err(corrupt("a storage that no tensor uses".into()));
        };
        let mut elements = [0; 8];
        source.read_at(at, &mut elements)?;
        let elements = u64::from_le_bytes(elements);
        let start = at + 8;
        let end = elements.checked_mul(*element).and_then(|len| start.checked_add(len));
        let Some(end) = end.filter(|&end| end <= source.bytes.size()) else {
            return Err(corrupt(format!("a storage of {elements} elements at byte {start}")));
        };
        if ranges.insert(key, StorageRange { start, len: end - start }).is_some() {
            return Err(corrupt("a storage key twice".into()));
        }
        at = end;
    }
    match source.bytes.size().saturating_sub(at) {
        0 => Ok(ranges),
        extra => Err(source.fault(format!("{extra} bytes after the last storage"), "nothing there").corrupt()),
    }
}

struct Pickles {
    version: Finished,
    machine: Finished,
    state_dict: Finished,
    keys: Finished,
}

impl Pickles {
    fn read(bytes: &[u8]) -> Result<Self, PickleFault> {
        let version = pickle::run(bytes, MAGIC_BYTES)?;
        let machine = pickle::run(bytes, version.end)?;
        let state_dict = pickle::run(bytes, machine.end)?;
        let keys = pickle::run(bytes, state_dict.end)?;
        Ok(Self { version, machine, state_dict, keys })
    }
}
