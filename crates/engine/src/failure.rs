//! The error that crosses the boundary: `WireError` of the contract.

use serde_json::{json, Value};

/// A failed operation: a stable code, what was found and expected and what to do, and figures for programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
    pub details: Option<Value>,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The JSON of `WireError`.
    pub fn to_json(&self) -> String {
        json!({ "code": self.code, "message": self.message, "details": self.details }).to_string()
    }
}

impl From<switch_model::ModelError> for Failure {
    fn from(error: switch_model::ModelError) -> Self {
        Self { code: error.code, message: error.message, details: error.details }
    }
}

impl From<switch_checkpoint::CheckpointError> for Failure {
    fn from(error: switch_checkpoint::CheckpointError) -> Self {
        let fault = error.fault();
        let details = json!({
            "file": fault.file,
            "tensor": fault.tensor,
            "found": fault.found,
            "expected": fault.expected,
        });
        Self::new(error.code(), error.to_string()).with_details(details)
    }
}

impl From<switch_kernels::KernelError> for Failure {
    fn from(error: switch_kernels::KernelError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        switch_model::ModelError::from(error).into()
    }
}
