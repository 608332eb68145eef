//! The CUDA kernels, run thread by thread on this machine's processor (`src/cuda/kernels/host_shim.h`), against the CPU's
//! kernels and plain references. `npm run test:cuda-host` builds what they run in and sets `SWITCH_CUDA_HOST`.

mod attention;
mod backward;
mod host;
mod pointwise;
mod products;
mod routing;
mod sampling;
#[path = "../support/mod.rs"]
mod support;
mod training;
