//! What can be wrong with a call to a kernel.

use std::fmt;

/// A call that a kernel refuses. Nothing has been written when it is returned, unless the function says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// A slice or dimension does not have the size that the others imply.
    Shape { what: &'static str, expected: usize, found: usize },
    /// A dimension is out of the range that makes sense.
    Dimension { what: &'static str, expected: &'static str, found: usize },
    /// A product of dimensions does not fit in memory addresses.
    TooLarge { what: &'static str },
    /// A token id has no row in the embedding table.
    IdOutOfRange { id: u32, position: usize, rows: usize },
    /// A token is routed to an expert that does not exist, or carries another invalid number.
    Route { token: usize, expert: i32 },
    /// The weights of an expert could not be had; made by the caller of [`crate::experts`].
    Weights { expert: usize, reason: String },
    /// The named instruction set is unknown or missing on this machine.
    Isa { name: String, available: String },
}

impl KernelError {
    /// The stable code of this error, one of the library's error codes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Shape { .. } | Self::Dimension { .. } | Self::IdOutOfRange { .. } | Self::Route { .. } => {
                "INVALID_INPUT"
            }
            Self::TooLarge { .. } => "OUT_OF_MEMORY",
            Self::Weights { .. } => "CHECKPOINT_MISMATCH",
            Self::Isa { .. } => "INVALID_OPTION",
        }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { what, expected, found } => write!(f, "{what}: found {found}, expected {expected}"),
            Self::Dimension { what, expected, found } => write!(f, "{what}: found {found}, expected {expected}"),
            Self::TooLarge { what } => write!(f, "{what}: found a size past the address space; use smaller dimensions"),
            Self::IdOutOfRange { id, position, rows } => {
                write!(f, "token id at position {position}: found {id}, expected less than {rows}")
            }
            Self::Route { token, expert } => {
                write!(f, "route of token {token}: found expert {expert}, expected -1 or more")
            }
            Self::Weights { expert, reason } => write!(f, "weights of expert {expert}: {reason}"),
            Self::Isa { name, available } => {
                write!(f, "instruction set: found \"{name}\", expected one of {available}")
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// `a * b`, or an error naming `what` when the product is past the address space.
pub(crate) fn product(what: &'static str, a: usize, b: usize) -> Result<usize, KernelError> {
    a.checked_mul(b).ok_or(KernelError::TooLarge { what })
}

/// Checks the length of a slice.
pub(crate) fn expect_len(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected {
        Ok(())
    } else {
        Err(KernelError::Shape { what, expected, found })
    }
}
