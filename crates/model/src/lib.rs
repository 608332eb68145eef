//! Switch Transformers on candle: the one definition of the model, for every backend.
//!
//! Activations are flat (`[tokens, width]`, rows of a batch one after another, each with its own length); weights keep
//! the type they are stored in; kernels enter as candle custom ops (`ops`).

mod adapters;
mod cache;
mod checkpoint;
mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod error;
mod initialise;
mod layers;
mod losses;
mod model;
mod ops;
mod parameters;
mod profile;
pub mod quantisation;
mod routing;
mod rows;
mod stack;
mod trace;
mod training;
mod weight;

pub use adapters::{with_adapters, AdapterOptions};
pub use cache::DecoderCache;
pub use checkpoint::{reconcile, LoadDtype, Loader, Progress, SaveSource};
pub use config::{Fault, FeedForwardActivation, RouterDtype, SwitchTransformersConfig};
pub use device::{choose as choose_device, cuda_devices, device_name};
pub use error::{code, ModelError, Result};
pub use initialise::{initialise, Initializer};
pub use layers::bucket as relative_position_bucket;
pub use losses::{cross_entropy, router_losses, token_log_probs, RouterLosses, IGNORE_INDEX};
pub use model::{select, ExpertDevice, SwitchTransformers, TokenChoice, Tokens};
pub use parameters::{specs, Architecture, ParameterSpec, Parameters, Role};
pub use profile::{measure, Part, Profile};
pub use routing::{route, RoutingPolicy};
pub use rows::Rows;
pub use trace::{batched, Trace};
pub use training::{
    LayerLoad, Part as TrainingPart, StateSource, StepReport, Training, TrainingBatch, TrainingOptions, UpdateReport,
};
pub use weight::{StorageDtype, Weight};
