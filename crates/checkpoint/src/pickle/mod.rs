//! Pickles as `torch.save` writes them, read as data. Opcodes build plain values in an arena; the few classes that a
//! state dict needs are recognised by name and nothing is ever called.
mod calls;
mod cursor;
mod fault;
mod globals;
mod machine;
mod opcode;
mod state_dict;
mod value;

pub use fault::{FaultKind, PickleFault};
pub use machine::{run, Finished};
pub use state_dict::{entry, storage_keys, tensors, PickledTensor};
pub use value::Value;
