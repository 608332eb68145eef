//! Everything that outlives a call, by number. What was made from a model is freed with it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use switch_checkpoint::Checkpoint;
use switch_model::{DecoderCache, Loader, SaveSource, StateSource, SwitchTransformers, Training};

use crate::failure::Failure;
use crate::operations::generation::GenerationSession;

/// What a handle may stand for.
pub enum Object {
    Checkpoint(Arc<Checkpoint>),
    Load(Box<Loader>),
    Model(Arc<SwitchTransformers>),
    PastKeyValues(Box<DecoderCache>),
    SavePlan(Box<SaveSource>),
    StatePlan(Box<StateSource>),
    Training(Arc<Mutex<Training>>),
    Session(Box<GenerationSession>),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Self::Checkpoint(_) => "checkpoint",
            Self::Load(_) => "load",
            Self::Model(_) => "model",
            Self::PastKeyValues(_) => "past_key_values",
            Self::SavePlan(_) | Self::StatePlan(_) => "plan",
            Self::Training(_) => "training",
            Self::Session(_) => "session",
        }
    }
}

struct Entry {
    object: Object,
    /// The model it belongs to.
    owner: Option<u32>,
}

#[derive(Default)]
struct Registry {
    entries: HashMap<u32, Entry>,
    last: u32,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an object and gives it a number that no other object had.
pub fn insert(object: Object, owner: Option<u32>) -> Result<u32, Failure> {
    let mut registry = registry();
    let handle = registry.last.checked_add(1).ok_or_else(|| Failure::new("INTERNAL", "no handles left"))?;
    registry.last = handle;
    registry.entries.insert(handle, Entry { object, owner });
    Ok(handle)
}

/// Takes an object out for use; put it back with [`put_back`]. A call that fails or panics in between loses it, so only
/// objects that such a failure leaves unusable are taken.
pub fn take(handle: u32) -> Result<(Object, Option<u32>), Failure> {
    registry().entries.remove(&handle).map(|e| (e.object, e.owner)).ok_or_else(|| unknown(handle))
}

pub fn put_back(handle: u32, object: Object, owner: Option<u32>) {
    registry().entries.insert(handle, Entry { object, owner });
}

/// Frees a handle and, if it is a model's, everything made from it.
pub fn release(handle: u32) -> Result<(), Failure> {
    let freed: Vec<Entry> = {
        let mut registry = registry();
        let entry = registry.entries.remove(&handle).ok_or_else(|| unknown(handle))?;
        let owned: Vec<u32> =
            registry.entries.iter().filter(|(_, e)| e.owner == Some(handle)).map(|(h, _)| *h).collect();
        let mut freed = vec![entry];
        freed.extend(owned.iter().filter_map(|h| registry.entries.remove(h)));
        freed
    };
    drop(freed);
    Ok(())
}

pub fn unknown(handle: u32) -> Failure {
    Failure::new("INVALID_HANDLE", format!("nothing has the handle {handle}: it was disposed of, or never was"))
}

pub fn wrong_kind(handle: u32, object: &Object, expected: &str) -> Failure {
    Failure::new("INVALID_HANDLE", format!("handle {handle} is a {}, expected a {expected}", object.kind()))
}

/// A model by its handle.
pub fn model(handle: u32) -> Result<Arc<SwitchTransformers>, Failure> {
    let registry = registry();
    let entry = registry.entries.get(&handle).ok_or_else(|| unknown(handle))?;
    match &entry.object {
        Object::Model(model) => Ok(Arc::clone(model)),
        other => Err(wrong_kind(handle, other, "model")),
    }
}

/// Puts another model in the place of one, under its handle. What is running keeps the old one until it ends.
pub fn replace_model(handle: u32, model: Arc<SwitchTransformers>) -> Result<(), Failure> {
    let mut registry = registry();
    let entry = registry.entries.get_mut(&handle).ok_or_else(|| unknown(handle))?;
    match &entry.object {
        Object::Model(_) => {
            entry.object = Object::Model(model);
            Ok(())
        }
        other => Err(wrong_kind(handle, other, "model")),
    }
}

/// Whether a training of the model goes on, which holds its weights.
pub fn is_trained(model: u32) -> bool {
    let of_model = |entry: &Entry| entry.owner == Some(model) && matches!(entry.object, Object::Training(_));
    registry().entries.values().any(of_model)
}

/// A training by its handle, and the model it belongs to.
pub fn training(handle: u32) -> Result<(Arc<Mutex<Training>>, Option<u32>), Failure> {
    let registry = registry();
    let entry = registry.entries.get(&handle).ok_or_else(|| unknown(handle))?;
    match &entry.object {
        Object::Training(training) => Ok((Arc::clone(training), entry.owner)),
        other => Err(wrong_kind(handle, other, "training")),
    }
}

/// A checkpoint by its handle.
pub fn checkpoint(handle: u32) -> Result<Arc<Checkpoint>, Failure> {
    let registry = registry();
    let entry = registry.entries.get(&handle).ok_or_else(|| unknown(handle))?;
    match &entry.object {
        Object::Checkpoint(checkpoint) => Ok(Arc::clone(checkpoint)),
        other => Err(wrong_kind(handle, other, "checkpoint")),
    }
}

/// Fills `into` with bytes of a planned file, of a model or of a training's state.
pub fn read_plan(handle: u32, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
    let registry = registry();
    let entry = registry.entries.get(&handle).ok_or_else(|| unknown(handle))?;
    match &entry.object {
        Object::SavePlan(plan) => Ok(plan.read(file, offset, into)?),
        Object::StatePlan(plan) => Ok(plan.read(file, offset, into)?),
        other => Err(wrong_kind(handle, other, "plan")),
    }
}
