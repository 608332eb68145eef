//! Files as mapped memory.
//!
//! Weights are used where the file is mapped, without a copy. What follows from it: a file that another process
//! shortens while a model is loaded from it takes pages away, and touching them ends the process (SIGBUS); the
//! operating system offers no error value for that. Replacing a file (write elsewhere, then rename) is safe.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;

use memmap2::Mmap;
use switch_checkpoint::{ByteSource, SourceError};
use switch_engine::{Failure, Source};

use crate::wire::JsSource;

struct MappedFile {
    /// None for an empty file, which cannot be mapped.
    memory: Option<Mmap>,
}

impl MappedFile {
    fn bytes(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl ByteSource for MappedFile {
    fn size(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let bytes = self.bytes();
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(into.len())?))
            .ok_or_else(|| {
                SourceError(format!("{} bytes at {offset} are past the end, {}", into.len(), bytes.len()))
            })?;
        into.copy_from_slice(part);
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(self.bytes())
    }
}

/// Opens and maps a file. FILE_NOT_FOUND when it is not there, FILE_READ when it is no regular file or cannot be read.
pub fn open(source: &JsSource) -> Result<Source, Failure> {
    let Some(path) = &source.path else {
        return Err(Failure::new(
            "INVALID_INPUT",
            format!("source {:?} has no path: the native backend reads files by path", source.name),
        ));
    };
    let failed = |error: std::io::Error| {
        let code = if error.kind() == ErrorKind::NotFound { "FILE_NOT_FOUND" } else { "FILE_READ" };
        Failure::new(code, format!("{path}: {error}"))
    };
    // Before opening: to open a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Failure::new("FILE_READ", format!("{path} is not a regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    let memory = if metadata.len() == 0 {
        None
    } else {
        // SAFETY: the mapping is private and never written; what shortening the file does is said above.
        Some(unsafe { Mmap::map(&file) }.map_err(failed)?)
    };
    Ok(Source { name: source.name.clone(), bytes: Arc::new(MappedFile { memory }) })
}
