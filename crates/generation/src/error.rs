//! What can go wrong in a generation, as a value with a stable code.

use std::fmt;

/// A stable code, a message that says what was found, what was expected and what to do, and the option at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationError {
    /// One of `INVALID_OPTION`, `UNSUPPORTED_OPTION`, `INVALID_INPUT`, `OUT_OF_MEMORY`, `INTERNAL`, or a model's own.
    pub code: &'static str,
    pub message: String,
    /// The first option at fault, when it was an option.
    pub option: Option<String>,
    /// Every option at fault; empty when no option was.
    pub faults: Vec<OptionFault>,
}

/// One option that cannot be used as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFault {
    /// `INVALID_OPTION` or `UNSUPPORTED_OPTION`.
    pub code: &'static str,
    pub option: String,
    pub message: String,
}

pub const INVALID_OPTION: &str = "INVALID_OPTION";
pub const UNSUPPORTED_OPTION: &str = "UNSUPPORTED_OPTION";
pub const INVALID_INPUT: &str = "INVALID_INPUT";
pub const OUT_OF_MEMORY: &str = "OUT_OF_MEMORY";
pub const INTERNAL: &str = "INTERNAL";

impl GenerationError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), option: None, faults: Vec::new() }
    }

    /// An option that cannot be used as given.
    pub fn option(code: &'static str, option: &str, message: impl Into<String>) -> Self {
        Self::from_faults(vec![OptionFault { code, option: option.to_owned(), message: message.into() }])
    }

    /// All faults in one error. A value that is wrong outranks one that is merely not supported.
    pub fn from_faults(faults: Vec<OptionFault>) -> Self {
        let code = match faults.iter().any(|fault| fault.code == INVALID_OPTION) {
            true => INVALID_OPTION,
            false => UNSUPPORTED_OPTION,
        };
        let message = faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("\n");
        let option = faults.iter().find(|fault| fault.code == code).map(|fault| fault.option.clone());
        Self { code, message, option, faults }
    }
}

impl fmt::Display for GenerationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for GenerationError {}
