//! Writing safetensors. A plan fixes every byte's place first; the bytes are then asked for in pieces of any size, so
//! that nothing ever holds a whole file.
use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{SerializeMap, Serializer};
use serde::Serialize;

use crate::dtype::Dtype;
use crate::error::{CheckpointError, Fault};
use crate::limits;
use crate::safetensors::LENGTH_BYTES;
use crate::tensor::elements;

/// `(name, start, into)`: fills `into` with a tensor's bytes from `start` of its row-major little-endian elements.
pub type TensorBytes<'a> = dyn FnMut(&str, u64, &mut [u8]) -> Result<(), CheckpointError> + 'a;

/// A tensor to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A tensor and its place in a planned file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    pub tensor: SaveTensor,
    /// First byte and number of bytes within the file.
    pub offset: u64,
    pub len: u64,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    pub name: String,
    /// Bytes, header included.
    pub size: u64,
    /// Everything before the first tensor.
    pub header: Vec<u8>,
    /// In the order of the file.
    pub tensors: Vec<PlannedTensor>,
}

/// What is written where: `model.safetensors`, or `model-00001-of-0000N.safetensors` and an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavePlan {
    pub files: Vec<PlannedFile>,
    /// Text of `model.safetensors.index.json`, where there are several files.
    pub index: Option<String>,
    /// Bytes of all tensors together.
    pub total_size: u64,
}

impl SavePlan {
    /// Name of the file that [`SavePlan::index`] belongs in.
    pub const INDEX_NAME: &'static str = "model.safetensors.index.json";

    /// Plans files of at most `max_shard_bytes` bytes of tensors each; a larger tensor gets a file of its own. Tensors
    /// go into files in the order given, as in `huggingface_hub`, and lie within a file as the official safetensors
    /// writes them: largest elements first, then by name. `metadata` gets `format: pt` unless it has a format.
    pub fn new(
        tensors: &[SaveTensor],
        max_shard_bytes: u64,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        let mut metadata = metadata.clone();
        metadata.entry("format".into()).or_insert_with(|| "pt".into());
        let mut names = BTreeSet::new();
        let mut total_size = 0u64;
        let mut total_parameters = 0u64;
        let mut sized = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let fault = |found: &str, expected: &str| Fault::new("", found, expected).tensor(&tensor.name);
            if !names.insert(tensor.name.as_str()) {
                return Err(fault("the tensor twice", "each name once").invalid_input());
            }
            if tensor.name == "__metadata__" {
                return Err(fault("a reserved name", "another").invalid_input());
            }
            if tensor.shape.len() > limits::RANK {
                let expected = format!("at most {}", limits::RANK);
                return Err(fault(&format!("{} dimensions", tensor.shape.len()), &expected).invalid_input());
            }
            let too_large = || fault("a size that overflows", "a smaller shape").invalid_input();
            let count = elements(&tensor.shape).ok_or_else(too_large)?;
            let len = count.checked_mul(tensor.dtype.size() as u64).ok_or_else(too_large)?;
            total_size = total_size.checked_add(len).ok_or_else(too_large)?;
            total_parameters = total_parameters.saturating_add(count);
            sized.push((tensor, len));
        }
        let shards = shards(sized, max_shard_bytes);
        let count = shards.len();
        let mut files = Vec::with_capacity(count);
        for (number, shard) in shards.into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".into(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            files.push(PlannedFile::new(name, shard, &metadata)?);
        }
        let index = if count > 1 { Some(index(&files, total_size, total_parameters)?) } else { None };
        Ok(Self { files, index, total_size })
    }

    /// Fills `into` with the bytes from `offset` of a file, asking `tensor_bytes` for those of tensors.
    pub fn read(
        &self,
        file: usize,
        offset: u64,
        into: &mut [u8],
        tensor_bytes: &mut TensorBytes,
    ) -> Result<(), CheckpointError> {
        let Some(file) = self.files.get(file) else {
            let expected = format!("one below {}", self.files.len());
            return Err(Fault::new("", format!("file number {file}"), expected).invalid_input());
        };
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > file.size) {
            let found = format!("a read of {} bytes at {offset}", into.len());
            return Err(Fault::new(&file.name, found, format!("one within its {} bytes", file.size)).invalid_input());
        }
        let mut at = offset;
        let mut rest = into;
        if let Some(header) = usize::try_from(at).ok().and_then(|at| file.header.get(at..)) {
            let len = header.len().min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&header[..len]);
            rest = later;
            at += len as u64;
        }
        let first = file.tensors.partition_point(|tensor| tensor.offset + tensor.len <= at);
        for planned in file.tensors.iter().skip(first) {
            if rest.is_empty() {
                break;
            }
            let start = at - planned.offset;
            let len = usize::try_from(planned.len - start).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            if len > 0 {
                tensor_bytes(&planned.tensor.name, start, now)?;
            }
            rest = later;
            at += len as u64;
        }
        Ok(())
    }
}

/// Splits tensors into files, as `huggingface_hub` does. Always at least one.
fn shards(tensors: Vec<(&SaveTensor, u64)>, max: u64) -> Vec<Vec<(&SaveTensor, u64)>> {
    let mut shards = Vec::new();
    let mut current = Vec::new();
    let mut size = 0u64;
    for (tensor, len) in tensors {
        if len > max {
            shards.push(vec![(tensor, len)]);
            continue;
        }
        // No sum overflows: all sizes together were added up before.
        if size + len > max {
            shards.push(std::mem::take(&mut current));
            size = 0;
        }
        current.push((tensor, len));
        size += len;
    }
    if !current.is_empty() || shards.is_empty() {
        shards.push(current);
    }
    shards
}

impl PlannedFile {
    fn new(
        name: String,
        mut tensors: Vec<(&SaveTensor, u64)>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        tensors.sort_by(|(a, _), (b, _)| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let failed =
            |error: serde_json::Error| Fault::new(&name, format!("an unwritable header ({error})"), "").invalid_input();
        let mut header = vec![0; LENGTH_BYTES as usize];
        serde_json::to_writer(&mut header, &Header { metadata, tensors: &tensors }).map_err(failed)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = header.len() as u64 - LENGTH_BYTES;
        if length > limits::HEADER_BYTES || tensors.len() > limits::TENSORS {
            let found = format!("{} tensors with a header of {length} bytes", tensors.len());
            let expected = format!("at most {} and {}", limits::TENSORS, limits::HEADER_BYTES);
            return Err(Fault::new(&name, found, expected).advice("Save to smaller shards").invalid_input());
        }
        header[..LENGTH_BYTES as usize].copy_from_slice(&length.to_le_bytes());
        let mut at = header.len() as u64;
        let mut planned = Vec::with_capacity(tensors.len());
        for (tensor, len) in tensors {
            planned.push(PlannedTensor { tensor: tensor.clone(), offset: at, len });
            at = at
                .checked_add(len)
                .ok_or_else(|| Fault::new(&name, "a size that overflows", "smaller tensors").invalid_input())?;
        }
        Ok(Self { name, size: at, header, tensors: planned })
    }
}

struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [(&'a SaveTensor, u64)],
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'a str,
    shape: &'a [usize],
    data_offsets: (u64, u64),
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__metadata__", self.metadata)?;
        let mut at = 0;
        for (tensor, len) in self.tensors {
            let data_offsets = (at, at + len);
            at += len;
            map.serialize_entry(
                &tensor.name,
                &Entry { dtype: tensor.dtype.name(), shape: &tensor.shape, data_offsets },
            )?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct IndexFile<'a> {
    metadata: IndexMetadata,
    weight_map: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_parameters: u64,
    total_size: u64,
}

/// The index as `transformers` 5.18 writes it.
fn index(files: &[PlannedFile], total_size: u64, total_parameters: u64) -> Result<String, CheckpointError> {
    let weight_map = files
        .iter()
        .flat_map(|file| file.tensors.iter().map(|planned| (planned.tensor.name.as_str(), file.name.as_str())))
        .collect();
    let index = IndexFile { metadata: IndexMetadata { total_parameters, total_size }, weight_map };
    let mut text = serde_json::to_string_pretty(&index)
        .map_err(|error| Fault::new("", format!("an unwritable index ({error})"), "").invalid_input())?;
    text.push('\n');
    Ok(text)
}
