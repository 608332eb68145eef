//! Where a model computes: the option `device`, and what this build and machine have.

use candle_core::Device;

use crate::error::{code, ModelError, Result};

/// What `auto` and `cuda` can choose from: CUDA devices by name, or why there are none.
pub type CudaDevices = std::result::Result<Vec<String>, String>;

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

/// `auto` (or nothing) is the first CUDA device where one works, else the CPU; `cuda` is the first, `cuda:N` the one of
/// that number. `BACKEND_UNAVAILABLE` where it is not there, with what was found.
pub fn decide(asked: Option<&str>, cuda: &CudaDevices) -> Result<Choice> {
    let number = match asked {
        None | Some("auto") => return Ok(if cuda.is_ok() { Choice::Cuda(0) } else { Choice::Cpu }),
        Some("cpu") => return Ok(Choice::Cpu),
        Some("cuda") => Some(0),
        Some(name) => name.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok()),
    };
    let Some(number) = number else {
        let message = format!(
            "device: found {:?}, expected \"auto\", \"cpu\", \"cuda\" or \"cuda:\" and a number",
            asked.unwrap_or_default()
        );
        return Err(ModelError::new(code::INVALID_OPTION, message));
    };
    match cuda {
        Ok(devices) if number < devices.len() => Ok(Choice::Cuda(number)),
        Ok(devices) => {
            let message =
                format!("device: cuda:{number} is not there; found {} CUDA devices: {devices:?}", devices.len());
            Err(ModelError::new(code::BACKEND_UNAVAILABLE, message))
        }
        Err(reason) => {
            let message = format!("device: cuda is not available: {reason}");
            Err(ModelError::new(code::BACKEND_UNAVAILABLE, message))
        }
    }
}

/// The CUDA devices that a model can be put on. Asked once per process.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> &'static CudaDevices {
    crate::cuda::devices()
}

/// The CUDA devices that a model can be put on.
#[cfg(not(feature = "cuda"))]
pub fn cuda_devices() -> &'static CudaDevices {
    static NONE: std::sync::OnceLock<CudaDevices> = std::sync::OnceLock::new();
    NONE.get_or_init(|| {
        Err("this build has no CUDA; install the optional package switch-transformers-linux-x64-gnu-cuda, or build it with \
             `npm run build:cuda`"
            .into())
    })
}

/// What the option `device` means here.
pub fn choose(asked: Option<&str>) -> Result<Device> {
    match decide(asked, cuda_devices())? {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda(number) => open(number).or_else(|error| match asked {
            // A device that was found and cannot be opened (busy, lost) is no reason not to run at all.
            None | Some("auto") => Ok(Device::Cpu),
            _ => Err(error),
        }),
    }
}

#[cfg(feature = "cuda")]
fn open(number: usize) -> Result<Device> {
    crate::cuda::open(number)
}

#[cfg(not(feature = "cuda"))]
fn open(_: usize) -> Result<Device> {
    Err(ModelError::internal("a CUDA device in a build without CUDA"))
}

/// The name of a device in replies.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        _ => "cpu".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> CudaDevices {
        Ok(names.iter().map(|name| (*name).to_string()).collect())
    }

    #[test]
    fn auto_takes_a_gpu_where_there_is_one_and_falls_back() {
        assert_eq!(decide(None, &found(&["a"])), Ok(Choice::Cuda(0)));
        assert_eq!(decide(Some("auto"), &found(&["a", "b"])), Ok(Choice::Cuda(0)));
        assert_eq!(decide(Some("auto"), &Err("no driver".into())), Ok(Choice::Cpu));
        assert_eq!(decide(Some("cpu"), &found(&["a"])), Ok(Choice::Cpu));
        assert_eq!(decide(Some("cuda:1"), &found(&["a", "b"])), Ok(Choice::Cuda(1)));
    }

    #[test]
    fn cuda_says_why_it_is_not_there() {
        let error = decide(Some("cuda"), &Err("no driver".into())).unwrap_err();
        assert_eq!(error.code, "BACKEND_UNAVAILABLE");
        assert_eq!(error.message, "device: cuda is not available: no driver");
        let error = decide(Some("cuda:3"), &found(&["Tesla"])).unwrap_err();
        assert_eq!(error.code, "BACKEND_UNAVAILABLE");
        assert!(error.message.contains("1 CUDA devices") && error.message.contains("Tesla"), "{}", error.message);
        for name in ["gpu", "cuda:", "cuda:x", "CUDA"] {
            assert_eq!(decide(Some(name), &found(&["a"])).unwrap_err().code, "INVALID_OPTION");
        }
    }
}
