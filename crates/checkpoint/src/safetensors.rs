//! The safetensors header: eight bytes of length, then JSON, then the elements without holes.
//!
//! It enforces what the official implementation (safetensors 0.8, `tensor.rs`) enforces, and refuses names that occur
//! twice, where that one silently takes the last.
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use crate::dtype::Dtype;
use crate::error::{shown, CheckpointError};
use crate::limits;
use crate::source::NamedSource;
use crate::tensor::{elements, Layout, TensorInfo};

/// Bytes before the JSON.
pub const LENGTH_BYTES: u64 = 8;

/// Whether a file that starts with these bytes means to be safetensors.
pub fn is_safetensors(start: &[u8]) -> bool {
    start.get(LENGTH_BYTES as usize) == Some(&b'{')
}

/// Reads and checks the header of `source`, the checkpoint's file number `file`. Tensors come in file order.
pub fn open(
    source: &NamedSource,
    file: usize,
    metadata: &mut BTreeMap<String, String>,
) -> Result<Vec<TensorInfo>, CheckpointError> {
    let size = source.bytes.size();
    let mut length = [0; LENGTH_BYTES as usize];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > limits::HEADER_BYTES {
        let expected = format!("at most {} bytes", limits::HEADER_BYTES);
        return Err(source.fault(format!("a header length of {length} bytes"), expected).corrupt());
    }
    let available = size.saturating_sub(LENGTH_BYTES);
    if length > available {
        let found = format!("a header length of {length} bytes in a file of {size} bytes");
        return Err(source.fault(found, format!("at most {available} bytes")).corrupt());
    }
    let json = source.slice(LENGTH_BYTES, length)?;
    let json = std::str::from_utf8(&json)
        .map_err(|error| source.fault(format!("a header that is not UTF-8 ({error})"), "JSON in UTF-8").corrupt())?;
    let header: Header = serde_json::from_str(json).map_err(|error| {
        let expected = "a JSON object of tensors with dtype, shape and data_offsets, each named once";
        source.fault(format!("a header that cannot be read ({})", shown(&error.to_string())), expected).corrupt()
    })?;
    for (key, value) in header.metadata {
        metadata.entry(key).or_insert(value);
    }
    place(source, file, header.tensors, LENGTH_BYTES + length, available - length)
}

/// Checks the tensors' ranges against each other and the file, whose elements start at `start` and take `len` bytes.
fn place(
    source: &NamedSource,
    file: usize,
    mut entries: Vec<(String, Entry)>,
    start: u64,
    len: u64,
) -> Result<Vec<TensorInfo>, CheckpointError> {
    if let Some(name) = duplicate(&entries) {
        return Err(source.fault("the tensor twice in the header", "each name once").tensor(name).corrupt());
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut tensors = Vec::with_capacity(entries.len());
    let mut end = 0;
    for (name, Entry { dtype, shape, data_offsets: (from, to) }) in entries {
        let fault = |found: String, expected: String| source.fault(found, expected).tensor(&name);
        let Some(dtype) = Dtype::from_name(&dtype) else {
            let known = Dtype::ALL.map(Dtype::name).join(", ");
            return Err(fault(format!("dtype {}", shown(&dtype)), format!("one of {known}"))
                .advice("Convert the tensor to one of these")
                .unsupported());
        };
        let shape = shape_of(&shape.0).ok_or_else(|| {
            fault(format!("shape {:?}", shape.0), "dimensions that this platform can address".into()).unsupported()
        })?;
        let bytes = elements(&shape).and_then(|count| count.checked_mul(dtype.size() as u64));
        if bytes.is_none() || to.checked_sub(from) != bytes {
            let expected = match bytes {
                Some(bytes) => format!("{bytes} bytes for shape {shape:?} of {dtype}"),
                None => format!("a shape whose size does not overflow, not {shape:?}"),
            };
            return Err(fault(format!("data_offsets [{from}, {to}]"), expected).corrupt());
        }
        if from != end {
            let what = if from < end { "overlaps the tensor before it" } else { "leaves a hole before it" };
            return Err(fault(
                format!("data_offsets [{from}, {to}], which {what}"),
                format!("a range that starts at {end}"),
            )
            .corrupt());
        }
        if to > len {
            return Err(fault(
                format!("data_offsets [{from}, {to}]"),
                format!("an end within the {len} bytes of data"),
            )
            .corrupt());
        }
        end = to;
        let layout = Layout::Contiguous { offset: start + from, len: to - from };
        tensors.push(TensorInfo { name, dtype, shape, file, layout });
    }
    if end != len {
        return Err(source
            .fault(format!("{len} bytes of data"), format!("{end} bytes, the end of the last tensor"))
            .corrupt());
    }
    Ok(tensors)
}

fn shape_of(dims: &[u64]) -> Option<Vec<usize>> {
    dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}

fn duplicate(entries: &[(String, Entry)]) -> Option<&str> {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(*a),
        _ => None,
    })
}

struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Dimensions, no more than [`limits::RANK`].
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut metadata = None;
        let mut tensors = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = |error: A::Error| A::Error::custom(format_args!("\"{}\": {error}", shown(&key)));
            if key == "__metadata__" {
                if metadata.replace(map.next_value_seed(Strings).map_err(at)?).is_some() {
                    return Err(A::Error::custom("\"__metadata__\" occurs twice"));
                }
                continue;
            }
            let entry = map.next_value().map_err(at)?;
            if tensors.len() == limits::TENSORS {
                return Err(A::Error::custom(format_args!("more than {} tensors", limits::TENSORS)));
            }
            tensors.push((key, entry));
        }
        Ok(Header { metadata: metadata.unwrap_or_default(), tensors })
    }
}

/// An object of strings, or null; each key once.
pub struct Strings;

impl<'de> DeserializeSeed<'de> for Strings {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if strings.contains_key(&key) {
                return Err(A::Error::custom(format_args!("\"{}\" occurs twice", shown(&key))));
            }
            if strings.len() == limits::PAIRS {
                return Err(A::Error::custom(format_args!("more than {} pairs", limits::PAIRS)));
            }
            strings.insert(key, value);
        }
        Ok(strings)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == limits::RANK {
                        return Err(A::Error::custom(format_args!("more than {} dimensions", limits::RANK)));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}
