//! Tells a file's format by its first bytes, never by its name.
use std::collections::BTreeMap;

use crate::error::CheckpointError;
use crate::limits;
use crate::source::NamedSource;
use crate::tensor::TensorInfo;
use crate::{safetensors, torch, zip};

const KNOWN: &str = "safetensors, or a file that torch.save wrote";

/// What is often found in place of weights: how it starts, and what it is.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"\x89HDF", "an HDF5 file (Keras or TensorFlow weights)"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a plain pickle"),
];
const MISTAKEN: [(&[u8], &str); 4] = [
    (b"version https://git-lfs", "a Git LFS pointer in place of the file"),
    (b"<!DOCTYPE", "a web page in place of the file"),
    (b"<!doctype", "a web page in place of the file"),
    (b"<html", "a web page in place of the file"),
];

/// Reads the header of `file`, the checkpoint's file number `number`.
pub fn open(
    file: &NamedSource,
    number: usize,
    metadata: &mut BTreeMap<String, String>,
) -> Result<Vec<TensorInfo>, CheckpointError> {
    let size = file.bytes.size();
    if size <= safetensors::LENGTH_BYTES {
        return Err(file.fault(format!("{size} bytes"), KNOWN).corrupt());
    }
    let mut start = [0; 24];
    let start = start.get_mut(..size.min(24) as usize).unwrap_or_default();
    file.read_at(0, start)?;
    if safetensors::is_safetensors(start) {
        return safetensors::open(file, number, metadata);
    }
    let tensors = if zip::is_zip(start) {
        torch::open_archive(file, number)?
    } else if torch::is_legacy(start) {
        torch::open_legacy(file, number)?
    } else {
        return Err(unknown(file, start));
    };
    check_sharing(file, &tensors)?;
    Ok(tensors)
}

/// Tensors of a pickle may share bytes, but not without measure.
fn check_sharing(file: &NamedSource, tensors: &[TensorInfo]) -> Result<(), CheckpointError> {
    let size = file.bytes.size();
    let most = size.saturating_mul(limits::SHARED_TIMES).saturating_add(limits::SHARED_BYTES);
    let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.bytes()));
    if bytes <= most {
        return Ok(());
    }
    let found = format!("tensors of {bytes} bytes in a file of {size} bytes");
    Err(file
        .fault(found, format!("at most {most} bytes"))
        .advice("Call .clone() on tensors that share their elements before saving them")
        .unsupported())
}

fn unknown(file: &NamedSource, start: &[u8]) -> CheckpointError {
    let named = |table: &[(&[u8], &'static str)]| {
        table.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|(_, what)| *what)
    };
    if let Some(what) = named(&MISTAKEN) {
        return file.fault(what, KNOWN).advice("Download the file itself (for Git LFS: \"git lfs pull\")").corrupt();
    }
    if let Some(what) = named(&FOREIGN) {
        return file
            .fault(what, KNOWN)
            .advice("Convert the checkpoint to safetensors, for instance with transformers' save_pretrained")
            .unsupported();
    }
    let bytes: String = start.iter().take(9).map(|byte| format!(" {byte:02x}")).collect();
    file.fault(format!("an unknown format that starts with{bytes}"), KNOWN)
        .advice("The file is damaged or of another kind: download it again, or convert it to safetensors")
        .corrupt()
}
