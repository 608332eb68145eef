//! What can be wrong with a pickle.

pub type Result<T> = std::result::Result<T, PickleFault>;

/// Why a pickle was not read.
#[derive(Debug)]
pub struct PickleFault {
    pub kind: FaultKind,
    /// Byte of the pickle.
    pub position: usize,
    pub found: String,
    pub expected: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The bytes end before the pickle does.
    Truncated,
    Corrupt,
    Unsafe,
    Unsupported,
}
