//! `torch.save`'s zip archive: `NAME/data.pkl`, and `NAME/data/KEY` for every storage.
use std::collections::HashMap;

use super::pickle_error;
use super::place::{place, StorageRange};
use crate::error::{shown, CheckpointError};
use crate::limits;
use crate::pickle;
use crate::source::NamedSource;
use crate::tensor::TensorInfo;
use crate::zip::{Archive, Entry};

const PICKLE: &str = "data.pkl";

/// Reads the archive in `source`, the checkpoint's file number `file`.
pub fn open(source: &NamedSource, file: usize) -> Result<Vec<TensorInfo>, CheckpointError> {
    let archive = Archive::open(source)?;
    let folder = folder_of(source, &archive)?;
    let name = |entry: &str| format!("{folder}/{entry}");
    check_byte_order(source, &archive, &name("byteorder"))?;
    let name = name(PICKLE);
    let pickle = archive.get(&name).unwrap_or_default();
    if pickle.size > limits::PICKLE_BYTES {
        let expected = format!("at most {} bytes", limits::PICKLE_BYTES);
        return Err(source.fault(format!("a pickle of {} bytes", pickle.size), expected).unsupported());
    }
    let start = archive.locate(&name, pickle)?;
    let bytes = source.slice(start, pickle.size)?;
    let finished = pickle::run(&bytes, 0).map_err(|fault| pickle_error(source, fault))?;
    let pickled = pickle::tensors(source, &bytes, &finished)?;
    let mut storages = Storages::new(source, &archive, &folder);
    let mut tensors = Vec::with_capacity(pickled.len());
    for tensor in pickled {
        let range = storages.find(tensor.storage.key)?.ok_or_else(|| {
            let found = format!("no storage \"{}\" in the archive", shown(tensor.storage.key));
            source.fault(found, "an entry for every storage").tensor(tensor.name).corrupt()
        })?;
        tensors.push(place(source, file, tensor, range)?);
    }
    storages.check_apart((pickle.header, start + pickle.size))?;
    tensors.sort_by_key(|tensor| tensor.layout.offset());
    Ok(tensors)
}

/// The folder within the archive that holds everything.
fn folder_of(source: &NamedSource, archive: &Archive) -> Result<String, CheckpointError> {
    let mut folders = archive.names().filter_map(|name| name.strip_suffix(PICKLE)?.strip_suffix('/'));
    let unsupported = |found: &str| {
        source
            .fault(found, "an archive that torch.save wrote, with one data.pkl")
            .advice("Save model.state_dict() with torch.save, or as safetensors")
            .unsupported()
    };
    let folder = match (folders.next(), folders.next()) {
        (Some(folder), None) => folder.to_owned(),
        (None, _) => return Err(unsupported("a zip archive without data.pkl")),
        (Some(_), Some(_)) => return Err(unsupported("a zip archive with several data.pkl")),
    };
    if archive.get(&format!("{folder}/constants.pkl")).is_some() {
        return Err(unsupported("a TorchScript archive"));
    }
    Ok(folder)
}

fn check_byte_order(source: &NamedSource, archive: &Archive, name: &str) -> Result<(), CheckpointError> {
    // Files from before torch 2.1 lack it and are little-endian in practice.
    let Some(entry) = archive.get(name) else { return Ok(()) };
    let start = archive.locate(name, entry)?;
    match &*source.slice(start, entry.size.min(16))? {
        b"little" => Ok(()),
        b"big" => Err(source
            .fault("big-endian values", "little-endian values")
            .advice("Load the checkpoint on the machine that wrote it and save it as safetensors")
            .unsupported()),
        _ => Err(source.fault("an unknown byte order", "\"little\"").corrupt()),
    }
}

/// The archive's storages by key, each located once.
struct Storages<'a> {
    source: &'a NamedSource,
    archive: &'a Archive<'a>,
    entries: HashMap<&'a str, (&'a str, Entry)>,
    located: HashMap<&'a str, StorageRange>,
    /// First byte, header included, and end of every entry in use.
    taken: Vec<(u64, u64)>,
}

impl<'a> Storages<'a> {
    fn new(source: &'a NamedSource, archive: &'a Archive<'a>, folder: &str) -> Self {
        let prefix = format!("{folder}/data/");
        let entries = archive.names().filter_map(|name| {
            let key = name.strip_prefix(&prefix)?;
            Some((key, (name, archive.get(name)?)))
        });
        Self { source, archive, entries: entries.collect(), located: HashMap::new(), taken: vec![] }
    }

    fn find(&mut self, key: &str) -> Result<Option<StorageRange>, CheckpointError> {
        if let Some(range) = self.located.get(key) {
            return Ok(Some(*range));
        }
        let Some((&key, &(name, entry))) = self.entries.get_key_value(key) else { return Ok(None) };
        let range = StorageRange { start: self.archive.locate(name, entry)?, len: entry.size };
        self.located.insert(key, range);
        self.taken.push((entry.header, range.start + range.len));
        Ok(Some(range))
    }

    /// Checks that no two entries, nor any and the pickle, use the same bytes: archives that claim to be larger than
    /// they are do.
    fn check_apart(mut self, pickle: (u64, u64)) -> Result<(), CheckpointError> {
        self.taken.push(pickle);
        self.taken.sort_unstable();
        let overlap = self.taken.windows(2).any(|pair| matches!(pair, [(_, end), (next, _)] if next < end));
        match overlap {
            true => Err(self.source.fault("entries of the archive that overlap", "each in its own place").corrupt()),
            false => Ok(()),
        }
    }
}
