//! The choice of tokens where their logits lie.

use candle_core::{Storage, Tensor};
use switch_kernels::cuda::{sample_rows, Launches, Sampling};

use super::errors::of_driver;
use super::experts::storage_device;
use super::run::{floats, run, Buffer};
use crate::error::{ModelError, Result};
use crate::model::TokenChoice;

/// A token per row of `logits` `[rows, vocab_size]`: one integer a row comes back. `None` where a row has none, for the
/// caller to say why from the logits.
pub fn choose(logits: &Tensor, choice: &TokenChoice<'_>) -> Result<Option<Vec<u32>>> {
    let (rows, n) = logits.dims2()?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(cuda) = &*storage else { return Err(ModelError::internal("expected logits on CUDA")) };
    let device = storage_device(cuda);
    if choice.uniforms.is_some_and(|uniforms| uniforms.len() != rows) {
        return Err(ModelError::internal("as many draws as rows"));
    }
    let uniforms = choice.uniforms.map(|uniforms| Buffer::from_host(&device, uniforms)).transpose()?;
    let sampling = Sampling {
        uniforms: uniforms.as_ref().map_or(0, Buffer::address),
        temperature: choice.temperature,
        top_k: choice.top_k,
        top_p: choice.top_p,
    };
    let (scores, tokens) = (Buffer::<f32>::new(&device, rows * n)?, Buffer::<i32>::new(&device, rows)?);
    let mut launches = Launches::new();
    sample_rows(&mut launches, floats(cuda, layout)?, &sampling, rows, n, scores.address(), tokens.address())?;
    run(&device, &launches)?;
    let mut found = device.cuda_stream().clone_dtoh(&tokens.0).map_err(|e| of_driver(&e, "reading tokens"))?;
    found.truncate(rows);
    Ok(found.into_iter().map(|token| u32::try_from(token).ok()).collect())
}
