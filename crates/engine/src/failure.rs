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
