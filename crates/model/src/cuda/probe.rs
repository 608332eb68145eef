//! Which CUDA devices there are, and opening one.

use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use candle_core::cuda_backend::cudarc::driver::{result, DriverError};
use candle_core::cuda_backend::CudaDevice;
use candle_core::Device;

use super::errors::of_driver;
use super::run::module;
use crate::device::CudaDevices;
use crate::error::{code, ModelError, Result};

/// What the kernels are compiled for, and what this toolkit's modules need of a driver.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
const LEAST_DRIVER: i32 = 13000;

#[cfg(windows)]
const DRIVER: &str = "nvcuda.dll";
#[cfg(not(windows))]
const DRIVER: &str = "libcuda.so.1";

/// The names of the devices, or why there is none that works. Found out once.
pub fn devices() -> &'static CudaDevices {
    static DEVICES: OnceLock<CudaDevices> = OnceLock::new();
    DEVICES.get_or_init(find)
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

fn find() -> CudaDevices {
    // SAFETY: the driver's library runs nothing of its own when it is loaded, and stays loaded.
    match unsafe { libloading::Library::new(DRIVER) } {
        Ok(library) => std::mem::forget(library),
        Err(_) => return Err(format!("found no NVIDIA driver ({DRIVER}); install one of version 580 or later")),
    }
    let failed = |error: DriverError| format!("found an NVIDIA driver that does not start (error {})", error.0 as u32);
    result::init().map_err(failed)?;
    let mut driver = 0;
    // SAFETY: writes an integer.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(failed)?;
    if driver < LEAST_DRIVER {
        return Err(format!(
            "found a driver of CUDA {}, expected {} or later; update the driver to version 580 or later",
            version(driver),
            version(LEAST_DRIVER)
        ));
    }
    let count = result::device::get_count().map_err(failed)?;
    let mut names = Vec::new();
    for ordinal in 0..count {
        let device = result::device::get(ordinal).map_err(failed)?;
        let name = result::device::get_name(device).map_err(failed)?;
        // SAFETY: `device` is one that the driver gave.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(failed)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(failed)?,
        );
        // Numbers are the driver's: the first that is too old ends the list.
        if capability < LEAST_CAPABILITY {
            if names.is_empty() {
                return Err(format!(
                    "found {name} of compute capability {}.{}, expected 8.0 or later",
                    capability.0, capability.1
                ));
            }
            break;
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err("found an NVIDIA driver and no device; see `nvidia-smi`, and CUDA_VISIBLE_DEVICES".into());
    }
    Ok(names)
}

/// The device of this number, opened once and kept.
pub fn open(number: usize) -> Result<Device> {
    static OPEN: Mutex<Vec<(usize, CudaDevice)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = open.iter().find(|(of, _)| *of == number) {
        return Ok(Device::Cuda(device.clone()));
    }
    // A stream of its own: candle's usual one belongs to the calling thread, and calls come from several.
    let device = CudaDevice::new_with_stream(number)?;
    // SAFETY: that stream is the only one that this library uses, so there is no other to wait for.
    unsafe { device.disable_event_tracking() };
    module(&device)?;
    open.push((number, device.clone()));
    Ok(Device::Cuda(device))
}

/// Refuses what the device cannot hold: `bytes` of weights (and gradients), and `expert_bytes` of experts.
pub fn check_room(device: &Device, bytes: u64, expert_bytes: u64) -> Result<()> {
    let Device::Cuda(cuda) = device else { return Ok(()) };
    let stream = cuda.cuda_stream();
    let (free, total) = stream.context().mem_get_info().map_err(|e| of_driver(&e, "asking for free memory"))?;
    let needed = bytes.saturating_add(expert_bytes);
    if needed <= free as u64 {
        return Ok(());
    }
    let help = match bytes <= free as u64 {
        true => "use expert_device: 'cpu', which leaves the experts in host memory, a smaller dtype",
        false => "use a smaller dtype",
    };
    let message = format!(
        "the weights take {} MiB ({} MiB of them experts) and {} of {} MiB are free on the CUDA device; {help} or \
         device: 'cpu'",
        needed >> 20,
        expert_bytes >> 20,
        free >> 20,
        total >> 20
    );
    let details = serde_json::json!({
        "needed_bytes": needed as f64, "expert_bytes": expert_bytes as f64, "free_bytes": free as f64,
        "total_bytes": total as f64
    });
    Err(ModelError::new(code::OUT_OF_MEMORY, message).with_details(details))
}
