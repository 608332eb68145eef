//! Where a pickle would call into Python: each call of the few known functions becomes a plain value, and every other
//! is refused.
use super::fault::{FaultKind, Result};
use super::globals::{lookup, Global};
use super::machine::Machine;
use super::value::{Node, Value};
use crate::error::shown;
use crate::limits;

impl<'a> Machine<'a> {
    pub(super) fn reduce(&mut self) -> Result<()> {
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
    pub(super) fn persistent(&mut self) -> Result<()> {
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
    pub(super) fn build(&mut self) -> Result<()> {
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

    pub(super) fn global(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        match lookup(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(self.fault(
                FaultKind::Unsafe,
                format!("the forbidden global {}.{}", shown(module), shown(name)),
                "only what torch.save uses for tensors",
            )),
        }
    }
}
