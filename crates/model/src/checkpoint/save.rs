//! Saving: a plan of files, then their bytes on demand, so that the whole is never in memory twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::{bf16, f16};
use switch_checkpoint::{CheckpointError, Dtype, Fault, SavePlan, SaveTensor};

use super::matching::SCALES;
use crate::error::{ModelError, Result};
use crate::model::SwitchTransformers;
use crate::weight::StorageDtype;

/// Values converted at a time.
const CHUNK: usize = 16 * 1024;

/// A model about to be written, and how.
pub struct SaveSource {
    model: Arc<SwitchTransformers>,
    dtypes: BTreeMap<String, StorageDtype>,
    pub plan: SavePlan,
}

impl SaveSource {
    /// `dtype` `None` keeps each weight's own type.
    pub fn new(model: Arc<SwitchTransformers>, max_shard_bytes: u64, dtype: Option<StorageDtype>) -> Result<Self> {
        let mut tensors = Vec::new();
        let mut dtypes = BTreeMap::new();
        for (name, weight) in model.parameters().iter() {
            if let (None, Some(matrix)) = (dtype, weight.quantised()) {
                let (stored, &[rows, cols]) = (matrix.kind().dtype(), weight.shape()) else { continue };
                let values = if stored == StorageDtype::Int8 { Dtype::I8 } else { Dtype::U8 };
                let shape = matrix.kind().stored_shape(rows, cols);
                tensors.push(SaveTensor { name: name.to_string(), dtype: values, shape });
                let shape = matrix.kind().scales_shape(rows, cols);
                tensors.push(SaveTensor { name: format!("{name}{SCALES}"), dtype: Dtype::F32, shape });
                dtypes.insert(name.to_string(), stored);
                continue;
            }
            let dtype = dtype.unwrap_or(weight.dtype());
            let stored = match dtype {
                StorageDtype::F32 => Dtype::F32,
                StorageDtype::F16 => Dtype::F16,
                StorageDtype::Bf16 => Dtype::Bf16,
                StorageDtype::Int8 | StorageDtype::Int4 => {
                    return Err(ModelError::internal("a quantised type to save floating-point weights in"));
                }
            };
            tensors.push(SaveTensor { name: name.to_string(), dtype: stored, shape: weight.shape().to_vec() });
            dtypes.insert(name.to_string(), dtype);
        }
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let plan = SavePlan::new(&tensors, max_shard_bytes, &metadata)?;
        Ok(Self { model, dtypes, plan })
    }

    /// Fills `into` with the bytes of file `file` from `offset`.
    pub fn read(&self, file: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let mut failure: Option<ModelError> = None;
        let result = self.plan.read(file, offset, into, &mut |name, start, into| {
            self.tensor_bytes(name, start, into).map_err(|error| {
                let text = error.to_string();
                failure = Some(error);
                CheckpointError::InvalidInput(Box::new(Fault {
                    tensor: Some(name.to_string()),
                    found: text,
                    ..Fault::default()
                }))
            })
        });
        match (failure, result) {
            (Some(error), _) => Err(error),
            (None, result) => Ok(result?),
        }
    }

    /// Bytes of a tensor from `start`, which may fall inside an element.
    fn tensor_bytes(&self, name: &str, start: u64, into: &mut [u8]) -> Result<()> {
        let (parameter, scales) = match name.strip_suffix(SCALES) {
            Some(parameter) => (parameter, true),
            None => (name, false),
        };
        let weight = self.model.parameters().get(parameter)?;
        let dtype = self.dtypes.get(parameter).copied().unwrap_or(weight.dtype());
        if let (StorageDtype::Int8 | StorageDtype::Int4, Some(matrix)) = (dtype, weight.quantised()) {
            let bytes = if scales { bytemuck::cast_slice(matrix.scales()) } else { matrix.value_bytes() };
            let part = usize::try_from(start).ok().and_then(|start| bytes.get(start..start.checked_add(into.len())?));
            into.copy_from_slice(part.ok_or_else(|| ModelError::internal("a read past the end of a tensor"))?);
            return Ok(());
        }
        let size = dtype.size();
        let start = usize::try_from(start).map_err(|_| ModelError::internal("an offset past the address space"))?;
        let mut element = start / size;
        let mut skip = start % size;
        let mut filled = 0;
        let mut values = vec![0f32; CHUNK];
        let mut bytes: Vec<u8> = Vec::with_capacity(CHUNK * size);
        while filled < into.len() {
            let wanted = (into.len() - filled + skip).div_ceil(size).min(CHUNK);
            let values = &mut values[..wanted];
            weight.read_f32(element, values)?;
            bytes.clear();
            for value in values.iter() {
                match dtype {
                    StorageDtype::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
                    StorageDtype::F16 => bytes.extend_from_slice(&f16::from_f32(*value).to_le_bytes()),
                    StorageDtype::Bf16 => bytes.extend_from_slice(&bf16::from_f32(*value).to_le_bytes()),
                    StorageDtype::Int8 | StorageDtype::Int4 => {}
                }
            }
            let part = (bytes.len() - skip).min(into.len() - filled);
            into[filled..filled + part].copy_from_slice(&bytes[skip..skip + part]);
            filled += part;
            element += wanted;
            skip = 0;
        }
        Ok(())
    }
}
