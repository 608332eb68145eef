//! The bytes of a pickle, and how opcodes' arguments are read from them.
use super::fault::{FaultKind, PickleFault, Result};
use super::value::Span;
use crate::limits;

pub struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Where the current opcode is, for messages.
    pub op_at: usize,
}

impl<'a> Cursor<'a> {
    /// UTF-8 text of `len` bytes.
    pub fn text(&mut self, len: u64) -> Result<Span> {
        let start = self.at;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        if std::str::from_utf8(bytes).is_err() {
            return Err(self.fault(FaultKind::Corrupt, "text that is not UTF-8".into(), "UTF-8"));
        }
        // A pickle is shorter than 4 GiB (`limits::PICKLE_BYTES`).
        Ok(Span { start: start as u32, len: len as u32 })
    }

    /// Text up to a line's end.
    pub fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..limits::PICKLE_NAME).unwrap_or(rest);
        let Some(len) = window.iter().position(|&byte| byte == b'\n') else {
            let truncated = window.len() == rest.len();
            let kind = if truncated { FaultKind::Truncated } else { FaultKind::Corrupt };
            return Err(self.fault(kind, "a name without an end".into(), "a line of at most 256 bytes"));
        };
        self.at += len + 1;
        std::str::from_utf8(window.get(..len).unwrap_or_default())
            .map_err(|_| self.fault(FaultKind::Corrupt, "a name that is not UTF-8".into(), "UTF-8"))
    }

    /// A little-endian two's complement integer of up to 8 bytes, after its length.
    pub fn long(&mut self) -> Result<i64> {
        let len = self.byte()?;
        let bytes = self.take(len.into())?;
        let mut wide = [if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }; 8];
        match wide.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            None => {
                return Err(self.fault(FaultKind::Corrupt, format!("an integer of {len} bytes"), "at most 8 bytes"))
            }
        }
        Ok(i64::from_le_bytes(wide))
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let range = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        match range {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.fault(FaultKind::Truncated, "the end of the pickle".into(), "more of it")),
        }
    }

    pub fn fault(&self, kind: FaultKind, found: String, expected: &'static str) -> PickleFault {
        PickleFault { kind, position: self.op_at, found, expected }
    }
}
