//! The stack machine that a pickle is a program for, without its power to call anything.
use std::collections::HashMap;

use super::globals::{lookup, Global};
use super::opcode::*;
use super::value::{FaultKind, Node, PickleFault, Span, Value};
use crate::error::shown;
use crate::limits;

/// A pickle that ran to its end.
pub struct Finished {
    pub value: Value,
    pub nodes: Vec<Node>,
    /// The byte after the pickle.
    pub end: usize,
}

/// Interprets the pickle that starts at byte `start`.
pub fn run(bytes: &[u8], start: usize) -> Result<Finished, PickleFault> {
    let mut machine =
        Machine { bytes, at: start, op_at: start, stack: vec![], marks: vec![], memo: HashMap::new(), nodes: vec![] };
    for _ in 0..limits::PICKLE_OPS {
        if machine.step()? {
            let value = machine.pop()?;
            return Ok(Finished { value, nodes: machine.nodes, end: machine.at });
        }
    }
    Err(machine.too_much("opcodes"))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the current opcode is, for messages.
    op_at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
}

type Result<T, E = PickleFault> = std::result::Result<T, E>;

impl<'a> Machine<'a> {
    /// Executes one opcode; true at the end.
    fn step(&mut self) -> Result<bool> {
        self.op_at = self.at;
        let opcode = self.byte()?;
        match opcode {
            STOP => return Ok(true),
            PROTO => match self.byte()? {
                2..=5 => {}
                other => {
                    return Err(self.fault(
                        FaultKind::Unsupported,
                        format!("pickle protocol {other}"),
                        "protocol 2 to 5",
                    ))
                }
            },
            FRAME => {
                self.take(8)?;
            }
            MARK => {
                if self.marks.len() == limits::PICKLE_VALUES {
                    return Err(self.too_much("marks"));
                }
                self.marks.push(self.stack.len());
            }
            NONE => self.push(Value::None)?,
            NEWTRUE => self.push(Value::Bool(true))?,
            NEWFALSE => self.push(Value::Bool(false))?,
            BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?
            }
            BININT1 => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?
            }
            BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?
            }
            LONG1 => {
                let value = self.long()?;
                self.push(Value::Int(value))?
            }
            BINFLOAT => {
                self.take(8)?;
                self.push(Value::Float)?
            }
            BINUNICODE | BINSTRING => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len.into())?
            }
            SHORT_BINUNICODE | SHORT_BINSTRING => {
                let len = self.byte()?;
                self.text(len.into())?
            }
            BINUNICODE8 => {
                let len = u64::from_le_bytes(self.array()?);
                self.text(len)?
            }
            BINBYTES => {
                let len = u32::from_le_bytes(self.array()?);
                self.take(len as usize)?;
                self.push(Value::Bytes)?
            }
            SHORT_BINBYTES => {
                let len = self.byte()?;
                self.take(len.into())?;
                self.push(Value::Bytes)?
            }
            EMPTY_TUPLE => self.push_node(Node::Tuple(vec![]))?,
            TUPLE1 => self.tuple(1)?,
            TUPLE2 => self.tuple(2)?,
            TUPLE3 => self.tuple(3)?,
            TUPLE => {
                let items = self.pop_mark()?;
                self.push_node(Node::Tuple(items))?
            }
            EMPTY_LIST => self.push_node(Node::List(vec![]))?,
            EMPTY_DICT => self.push_node(Node::Dict(vec![]))?,
            APPEND => {
                let item = self.pop()?;
                self.append(vec![item])?
            }
            APPENDS => {
                let items = self.pop_mark()?;
                self.append(items)?
            }
            SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![key, value])?
            }
            SETITEMS => {
                let items = self.pop_mark()?;
                self.set_items(items)?
            }
            BINPUT => {
                let key = self.byte()?;
                self.put(key.into())?
            }
            LONG_BINPUT => {
                let key = u32::from_le_bytes(self.array()?);
                self.put(key)?
            }
            MEMOIZE => self.put(self.memo.len() as u32)?,
            BINGET => {
                let key = self.byte()?;
                self.get(key.into())?
            }
            LONG_BINGET => {
                let key = u32::from_le_bytes(self.array()?);
                self.get(key)?
            }
            GLOBAL => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?
            }
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.text_of(module), self.text_of(name)) else {
                    return Err(self.corrupt("a global whose name is not text", "two strings"));
                };
                self.global(module, name)?
            }
            REDUCE => self.reduce()?,
            BUILD => self.build()?,
            BINPERSID => self.persistent()?,
            other => {
                let name = refused_name(other).map(|name| format!(" ({name})")).unwrap_or_default();
                return Err(self.fault(
                    FaultKind::Unsafe,
                    format!("the forbidden pickle opcode 0x{other:02x}{name}"),
                    "only the opcodes that torch.save writes for tensors",
                ));
            }
        }
        Ok(false)
    }

    fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callable = self.pop()?;
        let Value::Global(global) = callable else {
            return Err(self.fault(
                FaultKind::Unsafe,
                format!("a call of {}", callable.kind(&self.nodes)),
                "a call of a function that torch.save uses for tensors",
            ));
        };
        let args = self.items(args).ok_or_else(|| self.corrupt("arguments that are not a tuple", "a tuple"))?;
        let value = match (global, args) {
            (Global::OrderedDict, []) => Err(Node::Dict(vec![])),
            (Global::RebuildParameter, [data @ Value::Node(id), _, _]) => match self.nodes.get(*id as usize) {
                Some(Node::Tensor { .. }) => Ok(*data),
                _ => return Err(self.corrupt("a parameter without a tensor", "a tensor")),
            },
            (Global::RebuildTensor, args @ ([_, _, _, _, _, _] | [_, _, _, _, _, _, _])) => Err(self.tensor(args)?),
            (Global::OrderedDict, _) => {
                return Err(self.fault(
                    FaultKind::Unsupported,
                    "an OrderedDict built from arguments".into(),
                    "one that starts empty, as torch.save writes it",
                ))
            }
            (Global::Storage(_) | Global::OtherStorage, _) => {
                return Err(self.fault(
                    FaultKind::Unsafe,
                    "a call of a storage class".into(),
                    "storages by their persistent id, as torch.save writes them",
                ))
            }
            (Global::RebuildTensor | Global::RebuildParameter, _) => {
                return Err(self.corrupt("a tensor with the wrong number of arguments", "six or seven, or three"))
            }
        };
        match value {
            Ok(value) => self.push(value),
            Err(node) => self.push_node(node),
        }
    }

    /// Arguments of `_rebuild_tensor_v2`. Only their kinds are checked here; their values once the name is known.
    fn tensor(&self, args: &[Value]) -> Result<Node> {
        match args {
            [Value::Node(storage), Value::Int(offset), Value::Node(size), Value::Node(stride), ..]
                if matches!(self.nodes.get(*storage as usize), Some(Node::Storage { .. }))
                    && matches!(self.nodes.get(*size as usize), Some(Node::Tuple(_)))
                    && matches!(self.nodes.get(*stride as usize), Some(Node::Tuple(_))) =>
            {
                let offset = u64::try_from(*offset)
                    .map_err(|_| self.corrupt(&format!("a storage offset of {offset}"), "zero or more"))?;
                Ok(Node::Tensor { storage: *storage, offset, size: *size, stride: *stride })
            }
            _ => {
                Err(self
                    .corrupt("a tensor with arguments of the wrong kinds", "a storage, its offset, size and stride"))
            }
        }
    }

    /// `('storage', class, key, location, elements[, view])`, the only persistent ids that torch.save writes.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let expected = "('storage', class, key, location, number of elements)";
        let wrong = || self.corrupt("a persistent id of another form", expected);
        let (kind, class, key, elements, view) = match self.items(id).ok_or_else(wrong)? {
            [kind, class, key, _, elements] => (*kind, *class, *key, *elements, Value::None),
            [kind, class, key, _, elements, view] => (*kind, *class, *key, *elements, *view),
            _ => return Err(wrong()),
        };
        if self.text_of(kind).is_none_or(|kind| kind != "storage") {
            return Err(self.fault(FaultKind::Unsafe, "a persistent id that is not a storage".into(), expected));
        }
        let dtype = match class {
            Value::Global(Global::Storage(dtype)) => dtype,
            Value::Global(Global::OtherStorage) => {
                let found = "a storage of complex or quantised elements".into();
                return Err(self.fault(FaultKind::Unsupported, found, "real numbers, integers or booleans"));
            }
            _ => return Err(wrong()),
        };
        let (Value::Text(key), Value::Int(elements)) = (key, elements) else { return Err(wrong()) };
        if key.len as usize > limits::PICKLE_NAME {
            return Err(wrong());
        }
        let elements = u64::try_from(elements).map_err(|_| wrong())?;
        let view = match view {
            Value::None => None,
            view => match self.items(view) {
                Some([_, Value::Int(offset), Value::Int(len)]) => match (u64::try_from(*offset), u64::try_from(*len)) {
                    (Ok(offset), Ok(len)) => Some((offset, len)),
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            },
        };
        self.push_node(Node::Storage { dtype, key, elements, view })
    }

    /// Attributes of an OrderedDict (`_metadata` of a state dict). They say nothing of tensors and are dropped.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.pop()?;
        if !matches!((self.node(state), self.node(target)), (Some(Node::Dict(_)), Some(Node::Dict(_)))) {
            return Err(self.fault(
                FaultKind::Unsafe,
                format!("an object built from {} on {}", state.kind(&self.nodes), target.kind(&self.nodes)),
                "attributes of an OrderedDict only",
            ));
        }
        self.push(target)
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        match lookup(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(self.fault(
                FaultKind::Unsafe,
                format!("the forbidden global {}.{}", shown(module), shown(name)),
                "only what torch.save uses for tensors",
            )),
        }
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        let target = self.top()?;
        match self.node_mut(target) {
            Some(Node::List(list)) => list.extend(items),
            _ => return Err(self.corrupt("items appended to something else", "a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.corrupt("a key without a value", "pairs"));
        }
        let target = self.top()?;
        match self.node_mut(target) {
            Some(Node::Dict(dict)) => dict.extend(items.chunks_exact(2).filter_map(|pair| match pair {
                [key, value] => Some((*key, *value)),
                _ => None,
            })),
            _ => return Err(self.corrupt("pairs set on something else", "a dict")),
        }
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<()> {
        let value = self.top()?;
        if self.memo.len() == limits::PICKLE_VALUES {
            return Err(self.too_much("memo entries"));
        }
        self.memo.insert(key, value);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(value) => self.push(*value),
            None => Err(self.corrupt(&format!("a reference to memo {key}, which is not set"), "one that is")),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() == limits::PICKLE_VALUES {
            return Err(self.too_much("values on the stack"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() == limits::PICKLE_VALUES {
            return Err(self.too_much("containers"));
        }
        let id = self.nodes.len() as u32;
        self.nodes.push(node);
        self.push(Value::Node(id))
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let floor = self.floor();
        match self.stack.len().checked_sub(len).filter(|&from| from >= floor) {
            Some(from) => {
                let items = self.stack.split_off(from);
                self.push_node(Node::Tuple(items))
            }
            None => Err(self.corrupt("an empty stack", "a value on it")),
        }
    }

    /// Height of the stack that the innermost mark protects.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn top(&self) -> Result<Value> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.floor() => Ok(*value),
            _ => Err(self.corrupt("an empty stack", "a value on it")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.corrupt("no mark", "a mark on the stack")),
        }
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.nodes.get(id as usize),
            _ => None,
        }
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id as usize),
            _ => None,
        }
    }

    /// The items of a tuple.
    fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    fn text_of(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text(span) => std::str::from_utf8(self.bytes.get(span.range())?).ok(),
            _ => None,
        }
    }

    fn text(&mut self, len: u64) -> Result<()> {
        let start = self.at;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        if std::str::from_utf8(bytes).is_err() {
            return Err(self.corrupt("text that is not UTF-8", "UTF-8"));
        }
        // A pickle is shorter than 4 GiB (`limits::PICKLE_BYTES`).
        self.push(Value::Text(Span { start: start as u32, len: len as u32 }))
    }

    /// Text up to a line's end.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..limits::PICKLE_NAME).unwrap_or(rest);
        let Some(len) = window.iter().position(|&byte| byte == b'\n') else {
            let truncated = window.len() == rest.len();
            let kind = if truncated { FaultKind::Truncated } else { FaultKind::Corrupt };
            return Err(self.fault(kind, "a name without an end".into(), "a line of at most 256 bytes"));
        };
        self.at += len + 1;
        std::str::from_utf8(window.get(..len).unwrap_or_default())
            .map_err(|_| self.corrupt("a name that is not UTF-8", "UTF-8"))
    }

    /// A little-endian two's complement integer of up to 8 bytes, after its length.
    fn long(&mut self) -> Result<i64> {
        let len = self.byte()?;
        let bytes = self.take(len.into())?;
        let mut wide = [if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }; 8];
        match wide.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            None => return Err(self.corrupt(&format!("an integer of {len} bytes"), "at most 8 bytes")),
        }
        Ok(i64::from_le_bytes(wide))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let range = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        match range {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.fault(FaultKind::Truncated, "the end of the pickle".into(), "more of it")),
        }
    }

    fn corrupt(&self, found: &str, expected: &'static str) -> PickleFault {
        self.fault(FaultKind::Corrupt, found.into(), expected)
    }

    fn too_much(&self, what: &str) -> PickleFault {
        let found = format!("more than the allowed number of {what}");
        self.fault(FaultKind::Unsupported, found, "the few that names and shapes need")
    }

    fn fault(&self, kind: FaultKind, found: String, expected: &'static str) -> PickleFault {
        PickleFault { kind, position: self.op_at, found, expected }
    }
}
