//! Finds a pickled tensor's bytes in the file, and checks that it stays within its storage.
use crate::error::CheckpointError;
use crate::limits;
use crate::pickle::PickledTensor;
use crate::source::NamedSource;
use crate::tensor::{elements, Layout, TensorInfo};

/// Where a storage's bytes are in the file.
#[derive(Debug, Clone, Copy)]
pub struct StorageRange {
    pub start: u64,
    pub len: u64,
}

/// A tensor of the checkpoint's file number `file`, whose storage is at `range`.
pub fn place(
    source: &NamedSource,
    file: usize,
    pickled: PickledTensor,
    range: StorageRange,
) -> Result<TensorInfo, CheckpointError> {
    let PickledTensor { name, storage, offset, shape, strides } = pickled;
    let dtype = storage.dtype;
    let element = dtype.size() as u64;
    let fault = |found: String, expected: String| source.fault(found, expected).tensor(name);
    if storage.elements.checked_mul(element).is_none_or(|bytes| bytes > range.len) {
        let found = format!("a storage of {} bytes", range.len);
        return Err(fault(found, format!("{} elements of {dtype}", storage.elements)).corrupt());
    }
    let (first, available) = match storage.view {
        None => (0, storage.elements),
        Some((first, len)) if first.checked_add(len).is_some_and(|end| end <= storage.elements) => (first, len),
        Some((first, len)) => {
            let found = format!("a view of {len} elements from {first}");
            return Err(fault(found, format!("one within its storage of {} elements", storage.elements)).corrupt());
        }
    };
    let dims: Option<Vec<usize>> = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let count = dims.as_deref().and_then(elements);
    let (Some(dims), Some(count)) = (dims, count.filter(|count| count.checked_mul(element).is_some())) else {
        return Err(fault(format!("shape {shape:?}"), "a size that does not overflow".into()).corrupt());
    };
    let outside = || {
        let found = format!("shape {shape:?} with strides {strides:?} from element {offset}");
        fault(found, format!("elements within a storage of {available}")).corrupt()
    };
    if count == 0 {
        // Such a tensor reads nothing, wherever it says that it starts.
        let layout = Layout::Contiguous { offset: range.start, len: 0 };
        return Ok(TensorInfo { name: name.into(), dtype, shape: dims, file, layout });
    }
    let last = shape
        .iter()
        .zip(&strides)
        .try_fold(offset, |last, (&dim, &stride)| last.checked_add((dim - 1).checked_mul(stride)?))
        .ok_or_else(outside)?;
    if last >= available {
        return Err(outside());
    }
    if count > available && count > limits::EXPANDED_ELEMENTS {
        let found = format!("{count} elements in a storage of {available}");
        return Err(fault(found, "a tensor that holds its own elements".into())
            .advice("Call .contiguous() on expanded tensors before saving them")
            .unsupported());
    }
    // Within the storage, hence within the file: none of this can overflow.
    let start = range.start + (first + offset) * element;
    let layout = if is_row_major(&shape, &strides) {
        Layout::Contiguous { offset: start, len: count * element }
    } else {
        Layout::Strided { offset: start, strides }
    };
    Ok(TensorInfo { name: name.into(), dtype, shape: dims, file, layout })
}

/// Whether elements follow each other without gaps. The stride of a dimension of one does not matter.
fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    let mut next = 1;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        if dim != 1 && stride != next {
            return false;
        }
        next *= dim;
    }
    true
}
