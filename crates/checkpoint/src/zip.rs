//! The part of the zip format that `torch.save` writes: stored entries, found through the central directory, with
//! ZIP64 fields where sizes need them. Everything it says is checked against the file.
use std::collections::HashMap;

use crate::error::{shown, CheckpointError};
use crate::limits;
use crate::source::NamedSource;

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END_BYTES: usize = 22;
const END64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
const NONE16: u16 = u16::MAX;
const NONE32: u32 = u32::MAX;

/// Whether a file that starts with these bytes is a zip archive.
pub fn is_zip(start: &[u8]) -> bool {
    u32_at(start, 0) == Some(LOCAL) || u32_at(start, 0) == Some(END)
}

/// An entry as the central directory describes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    pub size: u64,
    /// Where its local header is.
    pub header: u64,
    method: u16,
    encrypted: bool,
}

/// The entries of an archive by name.
pub struct Archive<'a> {
    source: &'a NamedSource,
    entries: HashMap<String, Entry>,
    /// Where the central directory starts: every entry's bytes lie before it.
    directory: u64,
}

impl<'a> Archive<'a> {
    pub fn open(source: &'a NamedSource) -> Result<Self, CheckpointError> {
        let Directory { offset, len, count } = find_directory(source)?;
        if len > limits::ZIP_DIRECTORY {
            let expected = format!("at most {} bytes", limits::ZIP_DIRECTORY);
            return Err(source.fault(format!("a central directory of {len} bytes"), expected).corrupt());
        }
        let bytes = source.slice(offset, len)?;
        let mut entries = HashMap::new();
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let (name, entry, next) = central_entry(rest).ok_or_else(|| {
                source.fault("a damaged central directory", "an entry where one was promised").corrupt()
            })?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(source.fault(format!("the entry \"{}\" twice", shown(&name)), "each entry once").corrupt());
            }
            rest = next;
        }
        if entries.len() as u64 != count {
            return Err(source.fault(format!("{} entries", entries.len()), format!("the {count} promised")).corrupt());
        }
        Ok(Self { source, entries, directory: offset })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// Where in the file the entry's bytes start, after checking that its own header agrees.
    pub fn locate(&self, name: &str, entry: Entry) -> Result<u64, CheckpointError> {
        let fault = |found: String, expected: &str| {
            self.source.fault(format!("the entry \"{}\" with {found}", shown(name)), expected)
        };
        if entry.encrypted {
            return Err(fault("encryption".into(), "no encryption").advice("Decrypt the archive first").unsupported());
        }
        if entry.method != 0 {
            return Err(fault(
                format!("compression method {}", entry.method),
                "stored entries, as torch.save writes them",
            )
            .advice("The archive was packed again by another tool: save it again with torch.save")
            .unsupported());
        }
        let lying = |what: &str| fault(what.into(), "a local header that agrees with the central directory").corrupt();
        let header = self.source.slice(entry.header, (LOCAL_BYTES + name.len()) as u64).map_err(|error| {
            if error.code() == "FILE_READ" {
                error
            } else {
                lying("an offset outside the file")
            }
        })?;
        let parts = (u32_at(&header, 0), u16_at(&header, 8), u16_at(&header, 26), u16_at(&header, 28));
        let (Some(LOCAL), Some(0), Some(name_len), Some(extra_len)) = parts else {
            return Err(lying("no local header at its offset"));
        };
        if usize::from(name_len) != name.len() || header.get(LOCAL_BYTES..) != Some(name.as_bytes()) {
            return Err(lying("another name in its local header"));
        }
        let start = entry.header.checked_add((LOCAL_BYTES + name.len()) as u64 + u64::from(extra_len));
        match start.and_then(|start| Some((start, start.checked_add(entry.size)?))) {
            Some((start, end)) if end <= self.directory => Ok(start),
            _ => Err(lying(&format!("{} bytes, which run past the entries", entry.size))),
        }
    }
}

struct Directory {
    offset: u64,
    len: u64,
    count: u64,
}

/// Finds the central directory from the end of the file.
fn find_directory(source: &NamedSource) -> Result<Directory, CheckpointError> {
    let size = source.bytes.size();
    let tail_len = size.min((END_BYTES + usize::from(NONE16)) as u64);
    let tail = source.slice(size - tail_len, tail_len)?;
    let truncated = || source.fault("a zip archive without its end", "a central directory at the end").corrupt();
    // The comment that may follow must reach exactly to the end of the file.
    let at = (0..=tail.len().saturating_sub(END_BYTES))
        .rev()
        .find(|&at| {
            u32_at(&tail, at) == Some(END)
                && u16_at(&tail, at + 20).is_some_and(|comment| at + END_BYTES + usize::from(comment) == tail.len())
        })
        .ok_or_else(truncated)?;
    let end = size - tail_len + at as u64;
    let fields = (u16_at(&tail, at + 10), u32_at(&tail, at + 12), u32_at(&tail, at + 16));
    let (Some(count), Some(len), Some(offset)) = fields else {
        return Err(truncated());
    };
    let mut directory = Directory { offset: offset.into(), len: len.into(), count: count.into() };
    let mut limit = end;
    let locator = match end.checked_sub(LOCATOR_BYTES) {
        Some(at) => source.slice(at, LOCATOR_BYTES)?,
        None => Default::default(),
    };
    if u32_at(&locator, 0) == Some(END64_LOCATOR) {
        let lying = || source.fault("a ZIP64 locator that points nowhere", "a ZIP64 end record").corrupt();
        let record_at = u64_at(&locator, 8).ok_or_else(lying)?;
        if record_at.checked_add(END64_BYTES).is_none_or(|record_end| record_end > end - LOCATOR_BYTES) {
            return Err(lying());
        }
        let record = source.slice(record_at, END64_BYTES)?;
        let fields = (u32_at(&record, 0), u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
        let (Some(END64), Some(count), Some(len), Some(offset)) = fields else {
            return Err(lying());
        };
        directory = Directory { offset, len, count };
        limit = record_at;
    } else if count == NONE16 || len == NONE32 || offset == NONE32 {
        return Err(source.fault("ZIP64 sizes without a ZIP64 end record", "the record").corrupt());
    }
    if directory.offset.checked_add(directory.len) != Some(limit) {
        let found = format!("a central directory of {} bytes at {}", directory.len, directory.offset);
        return Err(source.fault(found, format!("one that ends at {limit}, where its end record starts")).corrupt());
    }
    Ok(directory)
}

/// The first entry of a central directory, and the bytes after it.
fn central_entry(bytes: &[u8]) -> Option<(String, Entry, &[u8])> {
    if u32_at(bytes, 0)? != CENTRAL {
        return None;
    }
    let flags = u16_at(bytes, 8)?;
    let method = u16_at(bytes, 10)?;
    let mut packed = u64::from(u32_at(bytes, 20)?);
    let mut size = u64::from(u32_at(bytes, 24)?);
    let name_len = usize::from(u16_at(bytes, 28)?);
    let extra_len = usize::from(u16_at(bytes, 30)?);
    let comment_len = usize::from(u16_at(bytes, 32)?);
    let mut header = u64::from(u32_at(bytes, 42)?);
    let name_end = CENTRAL_BYTES + name_len;
    let name = std::str::from_utf8(bytes.get(CENTRAL_BYTES..name_end)?).ok()?;
    let mut extra = bytes.get(name_end..name_end + extra_len)?;
    let rest = bytes.get(name_end + extra_len + comment_len..)?;
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let mut field = extra.get(4..4 + len)?;
        extra = extra.get(4 + len..)?;
        if id != 1 {
            continue;
        }
        // Present only for those that do not fit, in this order.
        for value in [&mut size, &mut packed, &mut header] {
            if *value == u64::from(NONE32) {
                *value = u64_at(field, 0)?;
                field = field.get(8..)?;
            }
        }
    }
    if method == 0 && packed != size {
        return None;
    }
    Some((name.into(), Entry { size, header, method, encrypted: flags & 1 != 0 }, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
