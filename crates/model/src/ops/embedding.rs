//! Token embeddings.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::weight::{try_zeros, Weight};

/// `table` `[vocab_size, width]` at `ids` → `[ids.len(), width]`. An id outside the table is `INVALID_INPUT`.
pub fn embedding(table: &Weight, ids: &[u32]) -> Result<Tensor> {
    let matrix = table.matrix()?;
    let width = matrix.cols;
    let mut out = try_zeros(ids.len() * width)?;
    switch_kernels::embedding(matrix, ids, &mut out)?;
    Ok(Tensor::from_vec(out, (ids.len(), width), &Device::Cpu)?)
}
