//! What the tests share: fixtures from the repository, and sources of several kinds.
#![allow(dead_code)]
pub mod zip;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use switch_checkpoint::{ByteSource, Checkpoint, CheckpointError, NamedSource, SourceError};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures")
}

pub fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    let path = fixtures().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file in memory, as a mapped one.
pub fn mapped(name: &str, bytes: Vec<u8>) -> NamedSource {
    NamedSource::new(name, Arc::new(bytes))
}

/// A file that is not mapped, as in a browser.
pub struct Unmapped(pub Vec<u8>);

impl ByteSource for Unmapped {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_at(offset, into)
    }
}

pub fn unmapped(name: &str, bytes: Vec<u8>) -> NamedSource {
    NamedSource::new(name, Arc::new(Unmapped(bytes)))
}

/// The files of a parity case that hold weights, and its index.
pub fn parity(case: &str) -> (Vec<(String, Vec<u8>)>, Option<String>) {
    let folder = fixtures().join("parity").join(case);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("model") || name.starts_with("pytorch_model"))
        .collect();
    names.sort();
    let mut index = None;
    let mut files = vec![];
    for name in names {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        if name.ends_with(".index.json") {
            index = Some(String::from_utf8(bytes).unwrap());
        } else {
            files.push((name, bytes));
        }
    }
    (files, index)
}

pub fn open_one(name: &str, bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(vec![mapped(name, bytes)], None)
}

/// A safetensors file of this header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

pub fn f32s(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let mut values = vec![0.0; tensor.elements() as usize];
    checkpoint.read_f32(tensor, &mut values).unwrap();
    values
}

/// The error that opening this file gives, on both kinds of source, which must agree.
pub fn refusal(name: &str, bytes: &[u8]) -> CheckpointError {
    let open = |source: NamedSource| match Checkpoint::open(vec![source], None) {
        Err(error) => error,
        Ok(checkpoint) => panic!("{name} was opened: {:?}", checkpoint.tensors().collect::<Vec<_>>()),
    };
    let error = open(mapped(name, bytes.into()));
    assert_eq!(error, open(unmapped(name, bytes.into())));
    let message = error.to_string();
    assert!(message.contains(name) && message.contains("found ") && message.len() < 3000, "{message}");
    error
}

/// Asserts the code of a refusal and what its message says.
pub fn assert_refused(name: &str, bytes: &[u8], code: &str, says: &str) {
    let error = refusal(name, bytes);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}
