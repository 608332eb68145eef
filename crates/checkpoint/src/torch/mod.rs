//! Files that `torch.save` writes: a zip archive of a pickle and its storages, or the older stream of pickles.
mod archive;
mod legacy;
mod place;

pub use archive::open as open_archive;
pub use legacy::{is_legacy, open as open_legacy};

use crate::error::{CheckpointError, Fault};
use crate::pickle::{FaultKind, PickleFault};
use crate::source::NamedSource;

/// A pickle's fault as the file's.
fn pickle_error(source: &NamedSource, fault: PickleFault) -> CheckpointError {
    let found = format!("{} at byte {} of the pickle", fault.found, fault.position);
    let error: Fault = source.fault(found, fault.expected);
    match fault.kind {
        FaultKind::Truncated | FaultKind::Corrupt => error.corrupt(),
        FaultKind::Unsafe => error.refused(),
        FaultKind::Unsupported => {
            error.advice("Save model.state_dict() with a current torch.save, or as safetensors").unsupported()
        }
    }
}
