//! Bytes from the mapped file to a device through page-locked memory: the pages are read and sent at the same time, and no
//! second copy of a weight is made on the host.

use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::PinnedHostSlice;
use candle_core::cuda_backend::{CudaDevice, DeviceId};

use super::errors::of_driver;
use super::run::{model_error, Buffer};

/// Of one of the two parts that take turns.
const STAGE_BYTES: usize = 4 << 20;

struct Stage {
    device: DeviceId,
    parts: [PinnedHostSlice<u8>; 2],
}

static STAGES: Mutex<Vec<Stage>> = Mutex::new(Vec::new());

/// A copy of `bytes` on the device.
pub fn upload(device: &CudaDevice, bytes: &[u8]) -> candle_core::Result<Buffer<u8>> {
    let mut buffer = Buffer::<u8>::new(device, bytes.len())?;
    overwrite(device, bytes, &mut buffer)?;
    Ok(buffer)
}

/// Writes `bytes` over what a buffer of that length holds, after all that was enqueued before.
pub fn overwrite(device: &CudaDevice, bytes: &[u8], buffer: &mut Buffer<u8>) -> candle_core::Result<()> {
    let failed = |e| model_error(of_driver(&e, "uploading weights"));
    let stream = device.cuda_stream();
    let mut stages = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if bytes.len() > STAGE_BYTES && !stages.iter().any(|stage| stage.device == device.id()) {
        // SAFETY: written before it is read.
        let part = || unsafe { stream.context().alloc_pinned::<u8>(STAGE_BYTES) };
        // Page-locked memory is scarce; without it the driver stages copies itself.
        if let (Ok(first), Ok(second)) = (part(), part()) {
            stages.push(Stage { device: device.id(), parts: [first, second] });
        }
    }
    let mut stage = stages.iter_mut().find(|stage| stage.device == device.id());
    let mut at = 0;
    for (turn, chunk) in bytes.chunks(STAGE_BYTES).enumerate() {
        let outside = || candle_core::Error::Msg("an upload outside of its buffer".into());
        let mut to = buffer.0.try_slice_mut(at..at + chunk.len()).ok_or_else(outside)?;
        at += chunk.len();
        match &mut stage {
            Some(stage) if chunk.len() == STAGE_BYTES => {
                let part = &mut stage.parts[turn % 2];
                // Waits for this part's last copy only.
                part.as_mut_slice().map_err(failed)?.copy_from_slice(chunk);
                stream.memcpy_htod(part, &mut to).map_err(failed)?;
            }
            _ => stream.memcpy_htod(chunk, &mut to).map_err(failed)?,
        }
    }
    Ok(())
}
