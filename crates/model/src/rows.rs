//! A batch as flat tokens: rows one after another, each with its own length. Nothing assumes a rectangle.

use crate::error::{ModelError, Result};

/// The lengths of a batch's rows and, where rows have padding, which tokens are real.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    lens: Vec<usize>,
    starts: Vec<usize>,
    tokens: usize,
    /// One byte a token over all rows, 0 = padding. `None`: all real.
    mask: Option<Vec<u8>>,
}

impl Rows {
    pub fn new(lens: Vec<usize>, mask: Option<Vec<u8>>) -> Result<Self> {
        let mut starts = Vec::with_capacity(lens.len());
        let mut tokens = 0usize;
        for len in &lens {
            starts.push(tokens);
            tokens = tokens.checked_add(*len).ok_or_else(|| ModelError::input("too many tokens in one call"))?;
        }
        if let Some(mask) = mask.as_ref().filter(|m| m.len() != tokens) {
            return Err(ModelError::input(format!("found a mask of {} tokens, expected {tokens}", mask.len())));
        }
        // A mask that hides nothing costs time and decides nothing.
        let mask = mask.filter(|m| m.contains(&0));
        Ok(Self { lens, starts, tokens, mask })
    }

    /// `batch` rows of `len` tokens.
    pub fn rectangle(batch: usize, len: usize, mask: Option<Vec<u8>>) -> Result<Self> {
        Self::new(vec![len; batch], mask)
    }

    pub fn count(&self) -> usize {
        self.lens.len()
    }

    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// `(start, length)` of each row.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.starts.iter().copied().zip(self.lens.iter().copied())
    }

    pub fn span(&self, row: usize) -> Result<(usize, usize)> {
        match (self.starts.get(row), self.lens.get(row)) {
            (Some(start), Some(len)) => Ok((*start, *len)),
            _ => Err(ModelError::internal(format!("row {row} of {}", self.lens.len()))),
        }
    }

    pub fn mask(&self) -> Option<&[u8]> {
        self.mask.as_deref()
    }

    /// The mask of one row.
    pub fn row_mask(&self, start: usize, len: usize) -> Option<&[u8]> {
        self.mask.as_deref().and_then(|m| m.get(start..start + len))
    }

    /// The common length, where all rows have it.
    pub fn common_len(&self) -> Option<usize> {
        let first = *self.lens.first()?;
        self.lens.iter().all(|len| *len == first).then_some(first)
    }
}
