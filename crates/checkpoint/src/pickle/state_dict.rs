//! A pickle's value as a state dict: names and what each says of its tensor.
use std::collections::HashSet;

use super::machine::Finished;
use super::value::{Node, Value};
use crate::dtype::Dtype;
use crate::error::{shown, CheckpointError};
use crate::limits;
use crate::source::NamedSource;

/// A tensor as the pickle describes it. Nothing but its rank has been checked.
pub struct PickledTensor<'a> {
    pub name: &'a str,
    pub storage: StorageRef<'a>,
    /// First element within the storage.
    pub offset: u64,
    pub shape: Vec<u64>,
    /// In elements.
    pub strides: Vec<u64>,
}

pub struct StorageRef<'a> {
    pub dtype: Dtype,
    pub key: &'a str,
    /// Elements, of the whole storage.
    pub elements: u64,
    /// First element and number of elements of a legacy view into it.
    pub view: Option<(u64, u64)>,
}

/// The tensors of the state dict that a pickle holds.
pub fn tensors<'a>(
    source: &NamedSource,
    bytes: &'a [u8],
    pickle: &Finished,
) -> Result<Vec<PickledTensor<'a>>, CheckpointError> {
    const EXPECTED: &str = "a dict of tensors, such as model.state_dict()";
    let nodes = &pickle.nodes;
    let advice = "Save model.state_dict() and nothing else";
    let Some(Node::Dict(entries)) = node(nodes, pickle.value) else {
        let found = format!("{} in the pickle", pickle.value.kind(nodes));
        return Err(source.fault(found, EXPECTED).advice(advice).unsupported());
    };
    if entries.len() > limits::TENSORS {
        let found = format!("{} entries in the state dict", entries.len());
        return Err(source.fault(found, format!("at most {}", limits::TENSORS)).unsupported());
    }
    let mut names = HashSet::with_capacity(entries.len());
    let mut tensors = Vec::with_capacity(entries.len());
    for &(key, value) in entries {
        let Some(name) = text(bytes, key) else {
            let found = format!("{} as a key of the state dict", key.kind(nodes));
            return Err(source.fault(found, EXPECTED).advice(advice).unsupported());
        };
        if !names.insert(name) {
            return Err(source.fault("the tensor twice in the pickle", "each name once").tensor(name).corrupt());
        }
        let Some(&Node::Tensor { storage, offset, size, stride }) = node(nodes, value) else {
            let found = format!("{} as the value of \"{}\"", value.kind(nodes), shown(name));
            return Err(source.fault(found, EXPECTED).advice(advice).unsupported());
        };
        let wrong = |what: &str| {
            source.fault(format!("a damaged {what}"), "non-negative integers, as many as dimensions").tensor(name)
        };
        let dims = |id| {
            let Some(Node::Tuple(items)) = node(nodes, Value::Node(id)) else { return None };
            if items.len() > limits::RANK {
                return None;
            }
            items.iter().map(|item| if let Value::Int(dim) = item { u64::try_from(*dim).ok() } else { None }).collect()
        };
        let shape: Vec<u64> = dims(size).ok_or_else(|| wrong("shape").corrupt())?;
        let strides: Vec<u64> = dims(stride).ok_or_else(|| wrong("stride").corrupt())?;
        if shape.len() != strides.len() {
            return Err(wrong("stride").corrupt());
        }
        let storage = match node(nodes, Value::Node(storage)) {
            Some(&Node::Storage { dtype, key, elements, view }) => {
                StorageRef { dtype, key: key.of(bytes).unwrap_or_default(), elements, view }
            }
            _ => return Err(wrong("storage").corrupt()),
        };
        tensors.push(PickledTensor { name, storage, offset, shape, strides });
    }
    Ok(tensors)
}

/// The list of storage keys that the legacy format keeps after its state dict.
pub fn storage_keys<'a>(bytes: &'a [u8], pickle: &Finished) -> Option<Vec<&'a str>> {
    match node(&pickle.nodes, pickle.value) {
        Some(Node::List(items)) => {
            items.iter().map(|&item| text(bytes, item).filter(|key| key.len() <= limits::PICKLE_NAME)).collect()
        }
        _ => None,
    }
}

/// The value of a text key in a dict.
pub fn entry(bytes: &[u8], pickle: &Finished, key: &str) -> Option<Value> {
    match node(&pickle.nodes, pickle.value) {
        Some(Node::Dict(entries)) => {
            entries.iter().rev().find(|(name, _)| text(bytes, *name) == Some(key)).map(|(_, value)| *value)
        }
        _ => None,
    }
}

fn node(nodes: &[Node], value: Value) -> Option<&Node> {
    match value {
        Value::Node(id) => nodes.get(id as usize),
        _ => None,
    }
}

fn text(bytes: &[u8], value: Value) -> Option<&str> {
    match value {
        Value::Text(span) => span.of(bytes),
        _ => None,
    }
}
