//! Launches on a device's stream, and memory for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{CudaStorage, Device, Layout, Shape, Storage, Tensor};
use switch_kernels::cuda::{Address, Argument, Launches};

use super::errors::of_driver;
use crate::error::{ModelError, Result};

/// The kernels for every capability that they are compiled for.
static KERNELS: &[u8] =
    include_bytes!(env!("SWITCH_CUDA_KERNELS", "build with `npm run build:cuda`: see docs/cuda.md"));

pub struct Module {
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
}

/// The kernels on this device, loaded once.
pub fn module(device: &CudaDevice) -> Result<Arc<Module>> {
    static LOADED: Mutex<Vec<(DeviceId, Arc<Module>)>> = Mutex::new(Vec::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = loaded.iter().find(|(id, _)| *id == device.id()) {
        return Ok(Arc::clone(module));
    }
    let stream = device.cuda_stream();
    let module = stream
        .context()
        .load_module(Ptx::from_binary(KERNELS.to_vec()))
        .map_err(|e| of_driver(&e, "loading the kernels"))?;
    let module = Arc::new(Module { module, functions: Mutex::default() });
    loaded.push((device.id(), Arc::clone(&module)));
    Ok(module)
}

/// Enqueues launches in order. Nothing is waited for.
pub fn run(device: &CudaDevice, launches: &Launches) -> Result<()> {
    let module = module(device)?;
    let stream = device.cuda_stream();
    let mut functions = module.functions.lock().unwrap_or_else(PoisonError::into_inner);
    for launch in launches {
        let failed = |e| of_driver(&e, launch.kernel);
        let function = match functions.get(launch.kernel) {
            Some(function) => function.clone(),
            None => {
                let function = module.module.load_function(launch.kernel).map_err(failed)?;
                functions.insert(launch.kernel, function.clone());
                function
            }
        };
        // The driver reads as many bytes as the parameter has from where it starts; words keep it aligned.
        let words: Vec<Vec<u64>> = launch.arguments.iter().map(words).collect();
        let mut builder = stream.launch_builder(&function);
        for argument in &words {
            if let Some(first) = argument.first() {
                builder.arg(first);
            }
        }
        let config = LaunchConfig {
            grid_dim: (launch.grid[0], launch.grid[1], launch.grid[2]),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        // SAFETY: the arguments are the kernel's parameters, by the same code that the host's tests run.
        unsafe { builder.launch(config) }.map_err(failed)?;
    }
    Ok(())
}

fn words(argument: &Argument) -> Vec<u64> {
    argument
        .0
        .chunks(8)
        .map(|bytes| {
            let mut word = [0u8; 8];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_ne_bytes(word)
        })
        .collect()
}

/// An error on its way through candle, whole.
pub fn model_error(error: ModelError) -> candle_core::Error {
    candle_core::Error::Cuda(Box::new(error))
}

/// The address of a contiguous float32 operand.
pub fn floats(storage: &CudaStorage, layout: &Layout) -> candle_core::Result<Address> {
    let slice = storage.as_cuda_slice::<f32>()?;
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("operand is not contiguous".into()))?;
    if end > slice.len() {
        return Err(candle_core::Error::Msg("operand is shorter than its shape".into()));
    }
    Ok(slice.device_ptr(slice.stream()).0 + start as u64 * 4)
}

/// Where a contiguous float32 tensor lies; it has to outlive what is enqueued with it.
pub fn address_of(x: &Tensor) -> candle_core::Result<Address> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => floats(storage, layout),
        _ => Err(candle_core::Error::Msg("expected a tensor on CUDA".into())),
    }
}

/// The device of a tensor.
pub fn device_of(x: &Tensor) -> candle_core::Result<CudaDevice> {
    match x.device() {
        Device::Cuda(device) => Ok(device.clone()),
        _ => Err(candle_core::Error::Msg("expected a tensor on CUDA".into())),
    }
}

/// Memory on the device, freed in the order of the stream: after what was enqueued before.
pub struct Buffer<T>(pub CudaSlice<T>);

impl<T: DeviceRepr + Clone + Default + 'static> Buffer<T> {
    /// `len` elements of whatever was there before.
    pub fn new(device: &CudaDevice, len: usize) -> candle_core::Result<Self> {
        // SAFETY: callers write every element before any is read.
        Ok(Self(unsafe { device.alloc::<T>(len.max(1)) }?))
    }

    pub fn from_host(device: &CudaDevice, values: &[T]) -> candle_core::Result<Self> {
        match values.is_empty() {
            true => Self::new(device, 1),
            false => Ok(Self(device.clone_htod(values)?)),
        }
    }

    pub fn address(&self) -> Address {
        self.0.device_ptr(self.0.stream()).0
    }
}

/// A buffer as an op's result.
pub fn wrap(buffer: Buffer<f32>, device: &CudaDevice, shape: impl Into<Shape>) -> (CudaStorage, Shape) {
    (CudaStorage::wrap_cuda_slice(buffer.0, device.clone()), shape.into())
}
