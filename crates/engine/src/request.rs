//! Reading requests: JSON into types, tensors by name, with errors that say what was wrong.

use candle_core::{Device, Tensor as Candle};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::wire::{Dtype, Tensor};

/// The JSON part of a request.
pub fn parse<T: DeserializeOwned>(operation: &str, request: &str) -> Result<T, Failure> {
    serde_json::from_str(request).map_err(|e| Failure::new("INVALID_OPTION", format!("{operation}: {e}")))
}

fn input(message: String) -> Failure {
    Failure::new("INVALID_INPUT", message)
}

/// The tensors of a request, by name. Lengths are checked against dims on the way in.
pub struct Tensors(Vec<Tensor>);

impl Tensors {
    pub fn new(tensors: Vec<Tensor>) -> Result<Self, Failure> {
        for (i, t) in tensors.iter().enumerate() {
            let elements = t.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let bytes = elements.and_then(|n| n.checked_mul(t.dtype.size()));
            if bytes != Some(t.data.len()) {
                let message = format!(
                    "{}: found {} bytes for {} {:?}, expected {bytes:?}",
                    t.name,
                    t.data.len(),
                    t.dtype.name(),
                    t.dims
                );
                return Err(input(message));
            }
            if tensors[..i].iter().any(|other| other.name == t.name) {
                return Err(input(format!("{} was given twice", t.name)));
            }
        }
        Ok(Self(tensors))
    }

    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|t| t.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Refuses tensors that the operation does not know: a misspelt name must not be ignored.
    pub fn only(&self, names: &[&str]) -> Result<(), Failure> {
        match self.0.iter().find(|t| !names.contains(&t.name.as_str())) {
            None => Ok(()),
            Some(t) => Err(input(format!("found the input {:?}, expected some of {}", t.name, names.join(", ")))),
        }
    }

    fn matrix(&self, name: &str) -> Result<Option<(&Tensor, usize, usize)>, Failure> {
        let Some(t) = self.get(name) else { return Ok(None) };
        let &[rows, cols] = t.dims.as_slice() else {
            return Err(input(format!("{name}: found {} dimensions, expected 2: [batch, tokens]", t.dims.len())));
        };
        if rows == 0 || cols == 0 {
            return Err(input(format!("{name}: found an empty batch of {rows} × {cols}, expected at least one token")));
        }
        Ok(Some((t, rows, cols)))
    }

    /// `[batch, tokens]` ids below `limit`.
    pub fn ids(&self, name: &str, limit: usize) -> Result<Option<Ids>, Failure> {
        let Some((t, rows, cols)) = self.matrix(name)? else { return Ok(None) };
        let ids = integers(t)?
            .into_iter()
            .enumerate()
            .map(|(i, id)| match u32::try_from(id) {
                Ok(id) if (id as usize) < limit => Ok(id),
                _ => Err(input(format!(
                    "{name}[{}][{}]: found {id}, expected a token id from 0 to {}",
                    i / cols,
                    i % cols,
                    limit.saturating_sub(1)
                ))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Ids { ids, rows, cols }))
    }

    /// `[batch, tokens]` labels: ids below `limit`, or -100.
    pub fn labels(&self, limit: usize) -> Result<Option<(Vec<i64>, usize, usize)>, Failure> {
        let Some((t, rows, cols)) = self.matrix("labels")? else { return Ok(None) };
        let labels = integers(t)?;
        for (i, label) in labels.iter().enumerate() {
            if *label != switch_model::IGNORE_INDEX && !usize::try_from(*label).is_ok_and(|l| l < limit) {
                let place = format!("labels[{}][{}]", i / cols, i % cols);
                let most = limit.saturating_sub(1);
                return Err(input(format!("{place}: found {label}, expected -100 or a token id from 0 to {most}")));
            }
        }
        Ok(Some((labels, rows, cols)))
    }

    /// `[rows, cols]` of zeros and ones with at least one 1 in each row.
    pub fn mask(&self, name: &str, rows: usize, cols: &[usize]) -> Result<Option<(Vec<u8>, usize)>, Failure> {
        let Some((t, found_rows, found_cols)) = self.matrix(name)? else { return Ok(None) };
        if found_rows != rows || !cols.contains(&found_cols) {
            let expected = cols.iter().map(|c| format!("[{rows}, {c}]")).collect::<Vec<_>>().join(" or ");
            return Err(input(format!("{name}: found [{found_rows}, {found_cols}], expected {expected}")));
        }
        let mask = zeros_and_ones(t, found_cols)?;
        if let Some(row) = mask.chunks_exact(found_cols).position(|row| !row.contains(&1)) {
            return Err(input(format!(
                "{name}: row {row} is all zero, expected at least one token that is not padding"
            )));
        }
        Ok(Some((mask, found_cols)))
    }

    /// `[rows, cols]` of zeros and ones, rows of zeros included.
    pub fn flags(&self, name: &str, rows: usize, cols: usize) -> Result<Option<Vec<u8>>, Failure> {
        match self.matrix(name)? {
            None => Ok(None),
            Some((t, r, c)) if (r, c) == (rows, cols) => Ok(Some(zeros_and_ones(t, c)?)),
            Some((_, r, c)) => Err(input(format!("{name}: found [{r}, {c}], expected [{rows}, {cols}]"))),
        }
    }

    /// `[batch, tokens, width]` floats, flat: `(values [batch * tokens, width], batch, tokens)`.
    pub fn vectors(&self, name: &str) -> Result<Option<(Candle, usize, usize)>, Failure> {
        let Some(t) = self.get(name) else { return Ok(None) };
        let &[rows, cols, width] = t.dims.as_slice() else {
            let message = format!("{name}: found {} dimensions, expected 3: [batch, tokens, width]", t.dims.len());
            return Err(input(message));
        };
        if rows == 0 || cols == 0 || width == 0 {
            return Err(input(format!("{name}: found {rows} × {cols} × {width}, expected at least one token")));
        }
        let tensor = Candle::from_vec(floats(t)?, (rows * cols, width), &Device::Cpu)?;
        Ok(Some((tensor, rows, cols)))
    }

    /// A float tensor as it is.
    pub fn floats(&self, name: &str) -> Result<Option<Floats>, Failure> {
        self.get(name).map(|t| Ok((floats(t)?, t.dims.clone()))).transpose()
    }
}

fn zeros_and_ones(t: &Tensor, cols: usize) -> Result<Vec<u8>, Failure> {
    let values: Vec<f64> = match t.dtype {
        Dtype::Float32 => floats(t)?.into_iter().map(f64::from).collect(),
        _ => integers(t)?.into_iter().map(|v| v as f64).collect(),
    };
    let mut mask = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        if value != 0.0 && value != 1.0 {
            let place = format!("{}[{}][{}]", t.name, i / cols, i % cols);
            return Err(input(format!("{place}: found {value}, expected 0 (padding) or 1")));
        }
        mask.push(value as u8);
    }
    Ok(mask)
}

/// Values and their dimensions.
pub type Floats = (Vec<f32>, Vec<usize>);

/// A batch of token ids.
pub struct Ids {
    pub ids: Vec<u32>,
    pub rows: usize,
    pub cols: usize,
}

pub fn integers(t: &Tensor) -> Result<Vec<i64>, Failure> {
    match t.dtype {
        Dtype::Int32 => Ok(chunks(t).map(|b: [u8; 4]| i64::from(i32::from_le_bytes(b))).collect()),
        Dtype::Int64 => Ok(chunks(t).map(i64::from_le_bytes).collect()),
        Dtype::Uint8 => Ok(t.data.iter().map(|b| i64::from(*b)).collect()),
        Dtype::Float32 => Err(input(format!("{}: found float32, expected integers", t.name))),
    }
}

pub fn floats(t: &Tensor) -> Result<Vec<f32>, Failure> {
    match t.dtype {
        Dtype::Float32 => Ok(chunks(t).map(f32::from_le_bytes).collect()),
        other => Err(input(format!("{}: found {}, expected float32", t.name, other.name()))),
    }
}

fn chunks<const N: usize>(t: &Tensor) -> impl Iterator<Item = [u8; N]> + '_ {
    t.data.chunks_exact(N).map(|chunk| {
        let mut bytes = [0; N];
        bytes.copy_from_slice(chunk);
        bytes
    })
}
