//! A checkpoint: its files' tensors under one roof, and their values.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use half::{bf16, f16};

use crate::convert::Element;
use crate::error::{room, shown, CheckpointError, Fault};
use crate::format;
use crate::gather::Gather;
use crate::index::{Index, INDEX};
use crate::source::{ByteSource, NamedSource};
use crate::tensor::{elements, Layout, TensorInfo};

/// Elements that are converted at a time: their chunk and its conversion stay in the second-level cache.
const CHUNK: usize = 16 * 1024;

/// The tensors of one or more files. Only headers have been read; values are read, or used in place, on request.
pub struct Checkpoint {
    files: Vec<NamedSource>,
    tensors: Vec<TensorInfo>,
    /// Positions in `tensors`, by name.
    by_name: Vec<usize>,
    metadata: BTreeMap<String, String>,
}

/// A tensor's bytes within a mapped file, which they keep alive.
#[derive(Clone)]
pub struct MappedBytes {
    source: Arc<dyn ByteSource>,
    offset: usize,
    len: usize,
}

impl MappedBytes {
    pub fn source(&self) -> &Arc<dyn ByteSource> {
        &self.source
    }

    /// First byte within the file.
    pub fn offset(&self) -> usize {
        self.offset
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements' bytes, row-major, aligned for their type.
    pub fn as_slice(&self) -> &[u8] {
        let end = self.offset.saturating_add(self.len);
        self.source.mapped().and_then(|bytes| bytes.get(self.offset..end)).unwrap_or_default()
    }
}

impl Checkpoint {
    /// Reads the headers of `files`, whose formats (safetensors, `torch.save`) are told by their content. `index` is
    /// the text of `*.index.json`: every shard that it names must be among the files, and every tensor that it maps
    /// in its shard. A tensor in two files is an error.
    pub fn open(files: Vec<NamedSource>, index: Option<&str>) -> Result<Self, CheckpointError> {
        let index = index.map(Index::parse).transpose()?;
        let positions = positions(&files)?;
        if let Some(index) = &index {
            let missing: BTreeSet<&str> =
                index.weight_map.values().map(String::as_str).filter(|shard| !positions.contains_key(shard)).collect();
            if let Some(shard) = missing.first() {
                let mut found = "no such file, although the index names it".to_owned();
                if missing.len() > 1 {
                    found += &format!(", and {} more missing shards", missing.len() - 1);
                }
                return Err(Fault::new(shard, found, "every shard")
                    .advice("Put the missing shards beside the others, or download the checkpoint again")
                    .not_found());
            }
        }
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::new();
        for (number, file) in files.iter().enumerate() {
            tensors.append(&mut format::open(file, number, &mut metadata)?);
        }
        let by_name = sorted_by_name(&files, &tensors)?;
        let checkpoint = Self { files, tensors, by_name, metadata };
        if let Some(index) = index {
            checkpoint.check_index(&index)?;
        }
        Ok(checkpoint)
    }

    /// Every tensor, by file and position.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let key = |at: &usize| self.tensors.get(*at).map(|tensor| tensor.name.as_str()).unwrap_or_default();
        let found = self.by_name.binary_search_by(|at| key(at).cmp(name)).ok()?;
        self.tensors.get(*self.by_name.get(found)?)
    }

    pub fn files(&self) -> &[NamedSource] {
        &self.files
    }

    /// The files' `__metadata__`, joined; the first file wins.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor's bytes in place: where its file is mapped, it has no gaps, and its first byte is aligned for its
    /// type. `None` otherwise; then read it.
    pub fn mapped(&self, tensor: &TensorInfo) -> Option<MappedBytes> {
        let Layout::Contiguous { offset, len } = tensor.layout else { return None };
        let file = self.files.get(tensor.file)?;
        let bytes = file.mapped(offset, len)?;
        if bytes.as_ptr().align_offset(tensor.dtype.size()) != 0 {
            return None;
        }
        Some(MappedBytes { source: file.bytes.clone(), offset: usize::try_from(offset).ok()?, len: bytes.len() })
    }

    /// Copies bytes from `start` of the tensor's row-major elements, without conversion.
    pub fn read_bytes(&self, tensor: &TensorInfo, start: u64, into: &mut [u8]) -> Result<(), CheckpointError> {
        self.reader(tensor)?.fill(start, into)
    }

    /// Fills `into` with elements from number `first`, converted to `T` (float32, float16, bfloat16, int64).
    /// Integers cannot be read from floats.
    pub fn read<T: Element>(&self, tensor: &TensorInfo, first: u64, into: &mut [T]) -> Result<(), CheckpointError> {
        let mut reader = self.reader(tensor)?;
        let element = tensor.dtype.size();
        let mut at = first.saturating_mul(element as u64);
        reader.check(at, (into.len() as u64).saturating_mul(element as u64))?;
        if tensor.dtype == T::DTYPE {
            return reader.fill(at, bytemuck::cast_slice_mut(into));
        }
        // Aligned for every type.
        let mut chunk = vec![0u64; (into.len().min(CHUNK) * element).div_ceil(8)];
        let chunk: &mut [u8] = bytemuck::cast_slice_mut(&mut chunk);
        let mut scratch = vec![0f32; into.len().min(CHUNK)];
        for part in into.chunks_mut(CHUNK) {
            let bytes = chunk.get_mut(..part.len() * element).unwrap_or_default();
            reader.fill(at, bytes)?;
            if !T::convert(tensor.dtype, bytes, &mut scratch, part) {
                return Err(self
                    .fault(
                        tensor,
                        format!("values of type {}", tensor.dtype),
                        format!("values to read as {}", T::DTYPE),
                    )
                    .advice("Convert the tensor, or read its bytes")
                    .unsupported());
            }
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// The whole tensor as float32. `into` has [`TensorInfo::elements`] elements.
    pub fn read_f32(&self, tensor: &TensorInfo, into: &mut [f32]) -> Result<(), CheckpointError> {
        self.read_whole(tensor, into)
    }

    /// The whole tensor as float16. `into` has [`TensorInfo::elements`] elements.
    pub fn read_f16(&self, tensor: &TensorInfo, into: &mut [f16]) -> Result<(), CheckpointError> {
        self.read_whole(tensor, into)
    }

    /// The whole tensor as bfloat16. `into` has [`TensorInfo::elements`] elements.
    pub fn read_bf16(&self, tensor: &TensorInfo, into: &mut [bf16]) -> Result<(), CheckpointError> {
        self.read_whole(tensor, into)
    }

    /// The whole of a tensor of integers or booleans.
    pub fn read_i64(&self, tensor: &TensorInfo) -> Result<Vec<i64>, CheckpointError> {
        let len = usize::try_from(tensor.elements()).unwrap_or(usize::MAX);
        if !tensor.dtype.is_integer() {
            return Err(self
                .fault(tensor, format!("values of type {}", tensor.dtype), "integers".into())
                .unsupported());
        }
        let mut values = room(len, self.file_name(tensor), "a tensor")?;
        values.resize(len, 0);
        self.read_whole(tensor, &mut values)?;
        Ok(values)
    }

    fn read_whole<T: Element>(&self, tensor: &TensorInfo, into: &mut [T]) -> Result<(), CheckpointError> {
        if into.len() as u64 != tensor.elements() {
            let found = format!("a buffer for {} elements", into.len());
            return Err(self.fault(tensor, found, format!("one for {}", tensor.elements())).invalid_input());
        }
        self.read(tensor, 0, into)
    }

    fn reader<'a>(&'a self, tensor: &'a TensorInfo) -> Result<Reader<'a>, CheckpointError> {
        let wrong =
            || self.fault(tensor, "a tensor of another checkpoint".into(), "one of this".into()).invalid_input();
        let source = self.files.get(tensor.file).ok_or_else(wrong)?;
        let element = tensor.dtype.size() as u64;
        let count = elements(&tensor.shape).filter(|count| count.checked_mul(element).is_some()).ok_or_else(wrong)?;
        let way = match &tensor.layout {
            Layout::Contiguous { offset, len } if *len == count * element => Way::Contiguous(*offset),
            Layout::Strided { offset, strides } if strides.len() == tensor.shape.len() => {
                Way::Strided(Box::new(Gather::new(source, *offset, &tensor.shape, strides, element).ok_or_else(wrong)?))
            }
            _ => return Err(wrong()),
        };
        Ok(Reader { checkpoint: self, tensor, source, len: count * element, way })
    }

    fn check_index(&self, index: &Index) -> Result<(), CheckpointError> {
        const LISTED: usize = 10;
        let absent = |(name, shard): &(&String, &String)| {
            let file = self.get(name).map(|tensor| self.file_name(tensor));
            file != Some(shard.as_str())
        };
        let missing: Vec<_> = index.weight_map.iter().filter(absent).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let listed = missing.iter().take(LISTED).map(|(name, shard)| format!("{} in {}", shown(name), shown(shard)));
        let mut found = format!("tensors that are not in their shards: {}", listed.collect::<Vec<_>>().join(", "));
        if missing.len() > LISTED {
            found += &format!(" and {} more", missing.len() - LISTED);
        }
        Err(Fault::new(INDEX, found, "every tensor in the shard that the index gives")
            .advice("The shards and the index are of different checkpoints: download them again")
            .corrupt())
    }

    fn file_name(&self, tensor: &TensorInfo) -> &str {
        self.files.get(tensor.file).map(|file| file.name.as_str()).unwrap_or_default()
    }

    fn fault(&self, tensor: &TensorInfo, found: String, expected: String) -> Fault {
        Fault::new(self.file_name(tensor), found, expected).tensor(&tensor.name)
    }
}

/// A tensor's row-major bytes.
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    tensor: &'a TensorInfo,
    source: &'a NamedSource,
    len: u64,
    way: Way<'a>,
}

enum Way<'a> {
    Contiguous(u64),
    Strided(Box<Gather<'a>>),
}

impl Reader<'_> {
    fn check(&self, start: u64, len: u64) -> Result<(), CheckpointError> {
        if start.checked_add(len).is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        let found = format!("a read of {len} bytes at {start}");
        let expected = format!("one within the tensor's {} bytes", self.len);
        Err(self.checkpoint.fault(self.tensor, found, expected).invalid_input())
    }

    fn fill(&mut self, start: u64, into: &mut [u8]) -> Result<(), CheckpointError> {
        self.check(start, into.len() as u64)?;
        match &mut self.way {
            Way::Contiguous(offset) => {
                let at = offset.saturating_add(start);
                match self.source.mapped(at, into.len() as u64) {
                    Some(bytes) => into.copy_from_slice(bytes),
                    None => self.source.read_at(at, into)?,
                }
                Ok(())
            }
            Way::Strided(gather) => gather.fill(start, into),
        }
    }
}

/// Positions of the tensors, by name. A name in two files is an error.
fn sorted_by_name(files: &[NamedSource], tensors: &[TensorInfo]) -> Result<Vec<usize>, CheckpointError> {
    let mut sorted: Vec<(usize, &TensorInfo)> = tensors.iter().enumerate().collect();
    sorted.sort_unstable_by_key(|(at, tensor)| (&tensor.name, *at));
    for pair in sorted.windows(2) {
        if let [(_, a), (_, b)] = pair {
            if a.name == b.name {
                let file = |tensor: &TensorInfo| files.get(tensor.file).map_or("", |file| &file.name);
                let found = format!("it in {} too", shown(file(a)));
                return Err(Fault::new(file(b), found, "each tensor in one file")
                    .tensor(&a.name)
                    .advice("Give the files of one checkpoint only")
                    .corrupt());
            }
        }
    }
    Ok(sorted.into_iter().map(|(at, _)| at).collect())
}

/// Where each file is, by name.
fn positions(files: &[NamedSource]) -> Result<HashMap<&str, usize>, CheckpointError> {
    if files.is_empty() {
        return Err(Fault::new("", "no files", "at least one file of weights").not_found());
    }
    let mut positions = HashMap::new();
    for (number, file) in files.iter().enumerate() {
        if positions.insert(file.name.as_str(), number).is_some() {
            return Err(file.fault("the file twice", "each file once").invalid_input());
        }
    }
    Ok(positions)
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        f.debug_struct("Checkpoint").field("files", &files).field("tensors", &self.tensors.len()).finish()
    }
}

impl std::fmt::Debug for MappedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedBytes").field("offset", &self.offset).field("len", &self.len).finish()
    }
}
