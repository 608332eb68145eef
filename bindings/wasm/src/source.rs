//! Files that JavaScript reads for us.

use std::sync::Arc;

use js_sys::{Error, Function, Uint8Array};
use switch_checkpoint::{ByteSource, SourceError};
use switch_engine::{Failure, Source};
use wasm_bindgen::{JsCast, JsValue};

use crate::wire::property;

/// `read(offset, into)` of a `Source`.
struct JsFile {
    size: u64,
    read: Function,
}

// SAFETY: files are opened, read and dropped by the one thread that runs operations; helpers run kernels only.
unsafe impl Send for JsFile {}
unsafe impl Sync for JsFile {}

impl ByteSource for JsFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        let length = into.len();
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(SourceError(format!("{length} bytes at {offset} are past the end, {}", self.size)));
        }
        if length == 0 {
            return Ok(());
        }
        // SAFETY: JavaScript writes straight into `into`, so that the bytes are never held twice. The view is good until
        // this memory grows, and nothing in here runs before the call returns; a view kept beyond the call sees
        // whatever the memory holds then, or nothing.
        let view = unsafe { Uint8Array::view_mut_raw(into.as_mut_ptr(), length) };
        self.read
            .call2(&JsValue::UNDEFINED, &JsValue::from_f64(offset as f64), &view)
            .map(|_| ())
            .map_err(|thrown| SourceError(message(&thrown)))
    }
}

fn message(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| "the file could not be read".to_owned()),
    }
}

/// A `Source` of the contract. INVALID_INPUT when it cannot be read from here.
pub fn open(value: &JsValue) -> Result<Source, Failure> {
    let name = property(value, "name").as_string().unwrap_or_default();
    let wrong = |what: &str| Failure::new("INVALID_INPUT", format!("source {name:?}: {what}"));
    let size = property(value, "size")
        .as_f64()
        .filter(|size| (0.0..=9_007_199_254_740_991.0).contains(size) && size.fract() == 0.0)
        .ok_or_else(|| wrong("size is not a whole number of bytes"))?;
    let read = property(value, "read")
        .dyn_into::<Function>()
        .map_err(|_| wrong("no read function: the WASM backend cannot open a path by itself"))?;
    Ok(Source { name, bytes: Arc::new(JsFile { size: size as u64, read }) })
}
