//! Where bytes come from: the one way into the crates for files, so that nothing here depends on a file system.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{room, CheckpointError, Fault};

/// A failed read, in the host's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError(pub String);

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SourceError {}

/// A file that can be read anywhere.
pub trait ByteSource: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `into` from `offset`, or fails; never fills partly.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError>;

    /// The whole file as memory, where the host maps files. Weights are then used in place.
    fn mapped(&self) -> Option<&[u8]> {
        None
    }
}

/// Bytes that are already in memory.
impl ByteSource for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).map_err(|_| SourceError("offset past the end".into()))?;
        let bytes = start.checked_add(into.len()).and_then(|end| self.get(start..end)).ok_or_else(|| {
            SourceError(format!("read of {} bytes at {offset} past the end, {}", into.len(), self.len()))
        })?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A file and the name that errors give it: the one that an index uses.
#[derive(Clone)]
pub struct NamedSource {
    pub name: String,
    pub bytes: Arc<dyn ByteSource>,
}

impl NamedSource {
    pub fn new(name: impl Into<String>, bytes: Arc<dyn ByteSource>) -> Self {
        Self { name: name.into(), bytes }
    }

    pub(crate) fn fault(&self, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(&self.name, found, expected)
    }

    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), CheckpointError> {
        let size = self.bytes.size();
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > size) {
            return Err(self.fault(format!("{size} bytes"), format!("{} bytes at {offset}", into.len())).corrupt());
        }
        self.bytes.read_at(offset, into).map_err(|error| {
            self.fault(
                format!("a failed read of {} bytes at {offset} ({error})", into.len()),
                "a file that can be read to its end",
            )
            .advice("Check that the file is still there and may be read")
            .unreadable()
        })
    }

    /// `len` bytes from `offset`: in place where the file is mapped.
    pub(crate) fn slice(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, CheckpointError> {
        if let Some(bytes) = self.mapped(offset, len) {
            return Ok(Cow::Borrowed(bytes));
        }
        let size = self.bytes.size();
        let fits = offset.checked_add(len).is_some_and(|end| end <= size);
        let Some(len) = usize::try_from(len).ok().filter(|_| fits) else {
            return Err(self.fault(format!("{size} bytes"), format!("{len} bytes at {offset}")).corrupt());
        };
        let mut bytes = room(len, &self.name, "a part")?;
        bytes.resize(len, 0);
        self.read_at(offset, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// `len` bytes from `offset`, where the file is mapped and has them.
    pub(crate) fn mapped(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.bytes.mapped()?.get(start..end)
    }
}
