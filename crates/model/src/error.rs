//! The crate's one error: a stable code, and a message that says what was found, what was expected and what to do.

use serde_json::Value;

/// Stable codes, shared with the facade's `ErrorCode`.
pub mod code {
    pub const INVALID_CONFIG: &str = "INVALID_CONFIG";
    pub const INVALID_INPUT: &str = "INVALID_INPUT";
    pub const INVALID_OPTION: &str = "INVALID_OPTION";
    pub const CHECKPOINT_CORRUPT: &str = "CHECKPOINT_CORRUPT";
    pub const CHECKPOINT_MISMATCH: &str = "CHECKPOINT_MISMATCH";
    pub const CHECKPOINT_UNSUPPORTED: &str = "CHECKPOINT_UNSUPPORTED";
    pub const OUT_OF_MEMORY: &str = "OUT_OF_MEMORY";
    pub const BACKEND_UNAVAILABLE: &str = "BACKEND_UNAVAILABLE";
    pub const UNSUPPORTED_OPTION: &str = "UNSUPPORTED_OPTION";
    pub const INTERNAL: &str = "INTERNAL";
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelError {
    pub code: &'static str,
    pub message: String,
    /// Figures and names for programs.
    pub details: Option<Value>,
}

pub type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_INPUT, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl std::fmt::Display for ModelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)
    }
}

impl std::error::Error for ModelError {}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        #[cfg(feature = "cuda")]
        if let Some(own) = crate::cuda::of_candle(&error) {
            return own;
        }
        Self::internal(format!("tensor operation failed: {error}"))
    }
}

impl From<switch_kernels::KernelError> for ModelError {
    fn from(error: switch_kernels::KernelError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<switch_checkpoint::CheckpointError> for ModelError {
    fn from(error: switch_checkpoint::CheckpointError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
