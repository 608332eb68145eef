//! The classes and functions that a pickle may name: those that `torch.save` uses for tensors, and no others.
use crate::dtype::Dtype;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks[, metadata])`
    RebuildTensor,
    /// `torch._utils._rebuild_parameter(data, requires_grad, backward_hooks)`
    RebuildParameter,
    /// A storage class; untyped storages hold bytes.
    Storage(Dtype),
    /// A storage class whose elements have no counterpart here (complex, quantised).
    OtherStorage,
}

/// The global of this name, if it is allowed.
pub fn lookup(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch.storage", "UntypedStorage") => Global::Storage(Dtype::U8),
        ("torch", name) => match name {
            "DoubleStorage" => Global::Storage(Dtype::F64),
            "FloatStorage" => Global::Storage(Dtype::F32),
            "HalfStorage" => Global::Storage(Dtype::F16),
            "BFloat16Storage" => Global::Storage(Dtype::Bf16),
            "LongStorage" => Global::Storage(Dtype::I64),
            "IntStorage" => Global::Storage(Dtype::I32),
            "ShortStorage" => Global::Storage(Dtype::I16),
            "CharStorage" => Global::Storage(Dtype::I8),
            "ByteStorage" => Global::Storage(Dtype::U8),
            "BoolStorage" => Global::Storage(Dtype::Bool),
            "ComplexDoubleStorage"
            | "ComplexFloatStorage"
            | "QUInt8Storage"
            | "QInt8Storage"
            | "QInt32Storage"
            | "QUInt4x2Storage"
            | "QUInt2x4Storage" => Global::OtherStorage,
            _ => return None,
        },
        _ => return None,
    })
}
