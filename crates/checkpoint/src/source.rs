//! Where bytes come from: the one way into the crates for files, so that nothing here depends on a file system.

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
