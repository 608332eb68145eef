//! The stack machine that a pickle is a program for, without its power to call anything.
use std::collections::HashMap;

use super::cursor::Cursor;
use super::fault::{FaultKind, PickleFault, Result};
use super::opcode::*;
use super::value::{Node, Value};
use crate::limits;

/// A pickle that ran to its end.
pub struct Finished {
    pub value: Value,
    pub nodes: Vec<Node>,
    /// The byte after the pickle.
    pub end: usize,
}

/// Interprets the pickle that starts at byte `start`.
pub fn run(bytes: &[u8], start: usize) -> Result<Finished> {
    let cursor = Cursor { bytes, at: start, op_at: start };
    let mut machine = Machine { cursor, stack: vec![], marks: vec![], memo: HashMap::new(), nodes: vec![] };
    for _ in 0..limits::PICKLE_OPS {
        if machine.step()? {
            let value = machine.pop()?;
            return Ok(Finished { value, nodes: machine.nodes, end: machine.cursor.at });
        }
    }
    Err(machine.too_much("opcodes"))
}

pub(super) struct Machine<'a> {
    cursor: Cursor<'a>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    pub(super) nodes: Vec<Node>,
}

impl<'a> Machine<'a> {
    /// Executes one opcode; true at the end.
    fn step(&mut self) -> Result<bool> {
        self.cursor.op_at = self.cursor.at;
        let opcode = self.cursor.byte()?;
        match opcode {
            STOP => return Ok(true),
            PROTO => match self.cursor.byte()? {
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
                self.cursor.take(8)?;
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
                let value = i32::from_le_bytes(self.cursor.array()?);
                self.push(Value::Int(value.into()))?
            }
            BININT1 => {
                let value = self.cursor.byte()?;
                self.push(Value::Int(value.into()))?
            }
            BININT2 => {
                let value = u16::from_le_bytes(self.cursor.array()?);
                self.push(Value::Int(value.into()))?
            }
            LONG1 => {
                let value = self.cursor.long()?;
                self.push(Value::Int(value))?
            }
            BINFLOAT => {
                self.cursor.take(8)?;
                self.push(Value::Float)?
            }
            BINUNICODE | BINSTRING => {
                let len = u32::from_le_bytes(self.cursor.array()?);
                self.text(len.into())?
            }
            SHORT_BINUNICODE | SHORT_BINSTRING => {
                let len = self.cursor.byte()?;
                self.text(len.into())?
            }
            BINUNICODE8 => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.text(len)?
            }
            BINBYTES => {
                let len = u32::from_le_bytes(self.cursor.array()?);
                self.cursor.take(len as usize)?;
                self.push(Value::Bytes)?
            }
            SHORT_BINBYTES => {
                let len = self.cursor.byte()?;
                self.cursor.take(len.into())?;
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
                let key = self.cursor.byte()?;
                self.put(key.into())?
            }
            LONG_BINPUT => {
                let key = u32::from_le_bytes(self.cursor.array()?);
                self.put(key)?
            }
            MEMOIZE => self.put(self.memo.len() as u32)?,
            BINGET => {
                let key = self.cursor.byte()?;
                self.get(key.into())?
            }
            LONG_BINGET => {
                let key = u32::from_le_bytes(self.cursor.array()?);
                self.get(key)?
            }
            GLOBAL => {
                let module = self.cursor.line()?;
                let name = self.cursor.line()?;
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

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() == limits::PICKLE_VALUES {
            return Err(self.too_much("values on the stack"));
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn push_node(&mut self, node: Node) -> Result<()> {
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

    pub(super) fn pop(&mut self) -> Result<Value> {
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

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
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
    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn text_of(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text(span) => span.of(self.cursor.bytes),
            _ => None,
        }
    }

    fn text(&mut self, len: u64) -> Result<()> {
        let span = self.cursor.text(len)?;
        self.push(Value::Text(span))
    }

    pub(super) fn corrupt(&self, found: &str, expected: &'static str) -> PickleFault {
        self.fault(FaultKind::Corrupt, found.into(), expected)
    }

    fn too_much(&self, what: &str) -> PickleFault {
        let found = format!("more than the allowed number of {what}");
        self.fault(FaultKind::Unsupported, found, "the few that names and shapes need")
    }

    pub(super) fn fault(&self, kind: FaultKind, found: String, expected: &'static str) -> PickleFault {
        self.cursor.fault(kind, found, expected)
    }
}
