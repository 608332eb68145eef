//! What can be wrong with a checkpoint, said so that the user knows what to do.
use std::fmt;

/// What was found, where, what was expected instead, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// The file, as the host named it. Empty where no single file is at fault.
    pub file: String,
    pub tensor: Option<String>,
    pub found: String,
    pub expected: String,
    pub advice: String,
}

/// Every failure of this crate. [`CheckpointError::code`] is stable; the message is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointError {
    /// The bytes contradict their own format or each other.
    Corrupt(Box<Fault>),
    /// The file asks for something that could do harm: a pickle's code, a path outside the folder.
    Unsafe(Box<Fault>),
    /// A valid file of a kind that is not read here.
    Unsupported(Box<Fault>),
    /// A file that an index names was not given.
    FileNotFound(Box<Fault>),
    /// The host could not read a file.
    FileRead(Box<Fault>),
    /// Memory for a buffer could not be had.
    OutOfMemory(Box<Fault>),
    /// The caller's request is wrong: a range outside a tensor, a buffer of the wrong size, a name twice.
    InvalidInput(Box<Fault>),
}

impl CheckpointError {
    /// The stable code that crosses into JavaScript.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt(_) => "CHECKPOINT_CORRUPT",
            Self::Unsafe(_) => "CHECKPOINT_UNSAFE",
            Self::Unsupported(_) => "CHECKPOINT_UNSUPPORTED",
            Self::FileNotFound(_) => "FILE_NOT_FOUND",
            Self::FileRead(_) => "FILE_READ",
            Self::OutOfMemory(_) => "OUT_OF_MEMORY",
            Self::InvalidInput(_) => "INVALID_INPUT",
        }
    }

    pub fn fault(&self) -> &Fault {
        match self {
            Self::Corrupt(fault)
            | Self::Unsafe(fault)
            | Self::Unsupported(fault)
            | Self::FileNotFound(fault)
            | Self::FileRead(fault)
            | Self::OutOfMemory(fault)
            | Self::InvalidInput(fault) => fault,
        }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, tensor, found, expected, advice } = self.fault();
        if !file.is_empty() {
            write!(f, "{file}: ")?;
        }
        if let Some(tensor) = tensor {
            write!(f, "tensor \"{tensor}\": ")?;
        }
        write!(f, "found {found}")?;
        if !expected.is_empty() {
            write!(f, "; expected {expected}")?;
        }
        f.write_str(".")?;
        if !advice.is_empty() {
            write!(f, " {advice}.")?;
        }
        Ok(())
    }
}

impl std::error::Error for CheckpointError {}

impl Fault {
    pub fn new(file: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            file: shown(file).into_owned(),
            tensor: None,
            found: found.into(),
            expected: expected.into(),
            advice: String::new(),
        }
    }

    pub fn tensor(mut self, name: &str) -> Self {
        self.tensor = Some(shown(name).into_owned());
        self
    }

    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub fn corrupt(mut self) -> CheckpointError {
        if self.advice.is_empty() {
            self.advice = "The file is damaged or incomplete: download or save it again".into();
        }
        CheckpointError::Corrupt(Box::new(self))
    }

    pub fn refused(mut self) -> CheckpointError {
        if self.advice.is_empty() {
            self.advice = "Nothing was executed; use a safetensors version of this checkpoint, or one from a source \
                           that you trust"
                .into();
        }
        CheckpointError::Unsafe(Box::new(self))
    }

    pub fn unsupported(self) -> CheckpointError {
        CheckpointError::Unsupported(Box::new(self))
    }

    pub fn not_found(self) -> CheckpointError {
        CheckpointError::FileNotFound(Box::new(self))
    }

    pub fn unreadable(self) -> CheckpointError {
        CheckpointError::FileRead(Box::new(self))
    }

    pub fn out_of_memory(self) -> CheckpointError {
        CheckpointError::OutOfMemory(Box::new(self))
    }

    pub fn invalid_input(self) -> CheckpointError {
        CheckpointError::InvalidInput(Box::new(self))
    }
}

/// A name from a file as a message may show it: shortened, and without control characters.
pub(crate) fn shown(name: &str) -> std::borrow::Cow<'_, str> {
    const LONGEST: usize = 200;
    if name.len() <= LONGEST && !name.chars().any(char::is_control) {
        return name.into();
    }
    let mut short: String = name.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short.into()
}

/// An empty vector with room for `len`, or an error instead of an abort.
pub(crate) fn room<T>(len: usize, file: &str, what: &str) -> Result<Vec<T>, CheckpointError> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        Fault::new(file, format!("{what} of {bytes} bytes"), "enough free memory for it").out_of_memory()
    })?;
    Ok(vec)
}
