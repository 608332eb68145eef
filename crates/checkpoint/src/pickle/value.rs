//! What a pickle builds. Nested values live side by side in an arena and refer to each other by number, so that no
//! depth of nesting costs stack, neither when it is built nor when it is dropped.
use super::globals::Global;
use crate::dtype::Dtype;

/// A value on the stack. Small and `Copy`: sharing and cycles are numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    /// Text or bytes, as a range of the pickle itself.
    Text(Span),
    Bytes,
    Global(Global),
    Node(u32),
}

/// A range of the pickle's bytes that is valid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// The text, in the pickle that it is of.
    pub fn of(self, bytes: &[u8]) -> Option<&str> {
        let start = self.start as usize;
        std::str::from_utf8(bytes.get(start..start.checked_add(self.len as usize)?)?).ok()
    }
}

/// A value with parts.
#[derive(Debug)]
pub enum Node {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// A dict or OrderedDict, pairs in order of insertion, keys possibly repeated.
    Dict(Vec<(Value, Value)>),
    Storage {
        dtype: Dtype,
        key: Span,
        /// Elements, of the whole storage.
        elements: u64,
        /// First element and number of elements of a legacy view into the storage.
        view: Option<(u64, u64)>,
    },
    Tensor {
        /// The number of a `Storage` node.
        storage: u32,
        /// In elements.
        offset: u64,
        /// Numbers of `Tuple` nodes of non-negative integers.
        size: u32,
        stride: u32,
    },
}

impl Value {
    /// What the value is, for messages.
    pub fn kind(self, nodes: &[Node]) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Text(_) => "a str",
            Self::Bytes => "bytes",
            Self::Global(_) => "a class or function",
            Self::Node(id) => match nodes.get(id as usize) {
                Some(Node::Tuple(_)) => "a tuple",
                Some(Node::List(_)) => "a list",
                Some(Node::Dict(_)) => "a dict",
                Some(Node::Storage { .. }) => "a storage",
                Some(Node::Tensor { .. }) => "a tensor",
                None => "nothing",
            },
        }
    }
}
