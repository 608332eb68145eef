//! What CUDA reports, as the library's own errors.

use candle_core::cuda_backend::cudarc::driver::sys::CUresult;
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::CudaError;

use crate::error::{code, ModelError};

/// The error of a driver call, `doing` something.
pub fn of_driver(error: &DriverError, doing: &str) -> ModelError {
    use CUresult::*;
    let number = error.0 as u32;
    match error.0 {
        CUDA_ERROR_OUT_OF_MEMORY => {
            let (free, total) = memory().unwrap_or((0, 0));
            let message = format!(
                "{doing}: the CUDA device is out of memory ({} of {} MiB are free); use a smaller model, batch or length, \
                 or device: 'cpu'",
                free >> 20,
                total >> 20
            );
            let details = serde_json::json!({ "free_bytes": free as f64, "total_bytes": total as f64 });
            ModelError::new(code::OUT_OF_MEMORY, message).with_details(details)
        }
        CUDA_ERROR_ILLEGAL_ADDRESS
        | CUDA_ERROR_LAUNCH_FAILED
        | CUDA_ERROR_LAUNCH_TIMEOUT
        | CUDA_ERROR_ECC_UNCORRECTABLE
        | CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUDA_ERROR_MISALIGNED_ADDRESS
        | CUDA_ERROR_ASSERT
        | CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUDA_ERROR_SYSTEM_NOT_READY => ModelError::new(
            code::BACKEND_UNAVAILABLE,
            format!("{doing}: the CUDA device was lost (error {number}, {error:?}); its models are gone, start the process again"),
        ),
        CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUDA_ERROR_INVALID_PTX
        | CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUDA_ERROR_INVALID_IMAGE
        | CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        | CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => ModelError::new(
            code::BACKEND_UNAVAILABLE,
            format!(
                "{doing}: the driver does not take this build's kernels (error {number}, {error:?}); they need compute \
                 capability 8.0 or later and a driver of CUDA 13.0 (580) or later"
            ),
        ),
        _ => ModelError::internal(format!("{doing}: CUDA error {number}, {error:?}")),
    }
}

/// Free and total bytes of the current device.
fn memory() -> Option<(usize, usize)> {
    candle_core::cuda_backend::cudarc::driver::result::mem_get_info().ok()
}

/// The error that candle carries, where it comes from CUDA or from this module.
pub fn of_candle(error: &candle_core::Error) -> Option<ModelError> {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } | candle_core::Error::WithPath { inner, .. } => {
            of_candle(inner)
        }
        candle_core::Error::Cuda(inner) => {
            if let Some(own) = inner.downcast_ref::<ModelError>() {
                return Some(own.clone());
            }
            match inner.downcast_ref::<CudaError>() {
                Some(CudaError::Cuda(driver)) => Some(of_driver(driver, "computing")),
                Some(CudaError::Load { cuda, module_name }) => Some(of_driver(cuda, &format!("loading {module_name}"))),
                _ => None,
            }
        }
        _ => None,
    }
}
