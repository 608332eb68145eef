//! Configs, loading, initialising and describing models.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use serde::Deserialize;
use serde_json::{json, Value};
use switch_model::quantisation::Recipe;
use switch_model::{
    choose_device, device_name, initialise, reconcile, Architecture, ExpertDevice, Initializer, LoadDtype, Loader,
    RoutingPolicy, StorageDtype, SwitchTransformers, SwitchTransformersConfig,
};

use super::{reply, Call};
use crate::failure::Failure;
use crate::handles::{self, Object};
use crate::request::parse;
use crate::wire::{Reply, Tensor};

#[derive(Deserialize)]
struct Resolve {
    config: Value,
}

pub fn config_resolve(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Resolve = parse("config_resolve", call.request)?;
    Ok(match SwitchTransformersConfig::from_json(&request.config) {
        Ok(config) => reply(json!({ "config": config.resolved, "faults": [] })),
        Err(error) => {
            let faults = error.details.and_then(|mut d| d.get_mut("faults").map(Value::take)).unwrap_or(json!([]));
            reply(json!({ "config": request.config, "faults": faults }))
        }
    })
}

#[derive(Deserialize)]
struct LoadOptions {
    architecture: String,
    #[serde(default)]
    dtype: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    expert_device: Option<String>,
    #[serde(default)]
    routing: Value,
}

impl LoadOptions {
    fn architecture(&self) -> Result<Architecture, Failure> {
        Architecture::parse(&self.architecture).ok_or_else(|| {
            let names: Vec<_> = Architecture::ALL.iter().map(|a| a.name()).collect();
            Failure::new(
                "INVALID_OPTION",
                format!("architecture: found {:?}, expected one of {names:?}", self.architecture),
            )
        })
    }

    fn policy(&self) -> Result<RoutingPolicy, Failure> {
        Ok(RoutingPolicy::from_json(&self.routing)?)
    }

    fn device(&self) -> Result<Device, Failure> {
        Ok(choose_device(self.device.as_deref())?)
    }

    fn expert_device(&self) -> Result<ExpertDevice, Failure> {
        match self.expert_device.as_deref() {
            None | Some("auto") => Ok(ExpertDevice::Model),
            Some("cpu") => Ok(ExpertDevice::Host),
            Some(other) => {
                let message = format!("expert_device: found {other:?}, expected \"auto\" or \"cpu\"");
                Err(Failure::new("INVALID_OPTION", message))
            }
        }
    }
}

/// `None` for `auto`.
pub fn dtype(name: Option<&str>) -> Result<Option<StorageDtype>, Failure> {
    match name {
        None | Some("auto") => Ok(None),
        Some(name) => StorageDtype::parse(name).map(Some).ok_or_else(|| {
            let message = format!("dtype: found {name:?}, expected \"auto\", \"float32\", \"bfloat16\" or \"float16\"");
            Failure::new("INVALID_OPTION", message)
        }),
    }
}

/// What weights are loaded as: a type of floating-point numbers, a quantised form, or as stored.
fn load_dtype(name: Option<&str>) -> Result<LoadDtype, Failure> {
    match name.and_then(Recipe::named) {
        Some(recipe) => Ok(LoadDtype::Quantised(recipe)),
        None => match dtype(name) {
            Ok(Some(dtype)) => Ok(LoadDtype::Float(dtype)),
            Ok(None) => Ok(LoadDtype::Stored),
            Err(_) => {
                let found = name.unwrap_or_default();
                let message = format!(
                    "dtype: found {found:?}, expected \"auto\", \"float32\", \"bfloat16\", \"float16\", \"int8\", \
                     \"int4\" or \"mixed\""
                );
                Err(Failure::new("INVALID_OPTION", message))
            }
        },
    }
}

#[derive(Deserialize)]
struct LoadStart {
    checkpoint: u32,
    config: Value,
    #[serde(flatten)]
    options: LoadOptions,
}

pub fn load_start(call: Call<'_>) -> Result<Reply, Failure> {
    let request: LoadStart = parse("model_load_start", call.request)?;
    let device = request.options.device()?;
    let checkpoint = handles::checkpoint(request.checkpoint)?;
    let config = reconcile(SwitchTransformersConfig::from_json(&request.config)?, &checkpoint)?;
    let options = &request.options;
    let loader = Loader::new(
        checkpoint,
        config,
        options.architecture()?,
        options.policy()?,
        load_dtype(options.dtype.as_deref())?,
    )?
    .on(device, options.expert_device()?);
    let total_bytes = loader.progress().total_bytes;
    let handle = handles::insert(Object::Load(Box::new(loader)), None)?;
    Ok(reply(json!({ "load": handle, "total_bytes": total_bytes })))
}

#[derive(Deserialize)]
struct LoadStep {
    load: u32,
    max_bytes: f64,
}

pub fn load_step(call: Call<'_>) -> Result<Reply, Failure> {
    let request: LoadStep = parse("model_load_step", call.request)?;
    // A step that fails ends the load: what it had is dropped here.
    let (object, owner) = handles::take(request.load)?;
    let mut loader = match object {
        Object::Load(loader) => loader,
        other => {
            let failure = handles::wrong_kind(request.load, &other, "load");
            handles::put_back(request.load, other, owner);
            return Err(failure);
        }
    };
    let done = loader.step(request.max_bytes as u64)?;
    let progress = loader.progress();
    let mut answer = json!({ "loaded_bytes": progress.loaded_bytes, "total_bytes": progress.total_bytes });
    if done {
        let model = handles::insert(Object::Model(Arc::new(loader.finish()?)), None)?;
        answer["model"] = json!(model);
    } else {
        handles::put_back(request.load, Object::Load(loader), owner);
    }
    Ok(reply(answer))
}

#[derive(Deserialize)]
struct Init {
    config: Value,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    initializer: Option<String>,
    #[serde(flatten)]
    options: LoadOptions,
}

pub fn init(call: Call<'_>) -> Result<Reply, Failure> {
    let request: Init = parse("model_init", call.request)?;
    let device = request.options.device()?;
    let initializer = match request.initializer.as_deref() {
        None | Some("reference") => Initializer::Reference,
        Some("paper") => Initializer::Paper,
        Some(other) => {
            let message = format!("initializer: found {other:?}, expected \"reference\" or \"paper\"");
            return Err(Failure::new("INVALID_OPTION", message));
        }
    };
    let architecture = request.options.architecture()?;
    let policy = request.options.policy()?;
    let mut config = SwitchTransformersConfig::from_json(&request.config)?;
    let dtype = match load_dtype(request.options.dtype.as_deref())? {
        LoadDtype::Stored => StorageDtype::F32,
        LoadDtype::Float(dtype) => {
            config.quantization = None;
            dtype
        }
        LoadDtype::Quantised(recipe) => {
            config.quantization = Some(recipe);
            StorageDtype::F32
        }
    };
    let memory = crate::available_memory();
    let recipe = config.quantization.as_ref();
    let parameters = initialise(&config, architecture, request.seed, initializer, dtype, recipe, memory)?;
    let model = SwitchTransformers::build(config, architecture, policy, parameters)?
        .on(device, request.options.expert_device()?)?;
    let handle = handles::insert(Object::Model(Arc::new(model)), None)?;
    Ok(reply(json!({ "model": handle })))
}

#[derive(Deserialize)]
struct OfModel {
    model: u32,
    #[serde(default)]
    names: Option<Vec<String>>,
}

pub fn info(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfModel = parse("model_info", call.request)?;
    let model = handles::model(request.model)?;
    let config = model.config();
    let (mut total, mut experts, mut bytes) = (0u64, 0u64, 0u64);
    let mut dtypes: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, weight) in model.parameters().iter() {
        let elements = weight.elements() as u64;
        total += elements;
        if name.contains("experts.expert_") {
            experts += elements;
        }
        bytes += weight.values().bytes() as u64;
        *dtypes.entry(weight.dtype().name()).or_default() += elements;
    }
    // All experts are of one size, and a token passes through one of each layer's.
    let active = total - experts + experts / config.num_experts as u64;
    Ok(reply(json!({
        "parameters": total,
        "parameters_active": active,
        "weight_bytes": bytes,
        "architecture": model.architecture().name(),
        "config": config.to_json(),
        "dtypes": dtypes,
        "device": device_name(model.device()),
    })))
}

pub fn parameters(call: Call<'_>) -> Result<Reply, Failure> {
    let request: OfModel = parse("model_parameters", call.request)?;
    let model = handles::model(request.model)?;
    let names = request.names.unwrap_or_else(|| model.parameters().iter().map(|(name, _)| name.to_string()).collect());
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let weight = model
            .parameters()
            .get(&name)
            .map_err(|_| Failure::new("INVALID_INPUT", format!("the model has no parameter {name:?}")))?;
        tensors.push(Tensor::from_f32(name, weight.shape(), &weight.to_f32()?));
    }
    Ok(Reply { json: "{}".into(), tensors })
}
