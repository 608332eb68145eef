//! The models: `SwitchTransformersForConditionalGeneration`, `SwitchTransformersModel`, `SwitchTransformersEncoderModel`
//! and the two modules that can be used alone.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::cache::{DecoderCache, Segment};
use crate::config::SwitchTransformersConfig;
use crate::error::{ModelError, Result};
use crate::layers::{CrossKeyValues, CrossRows, ExpertBank, Router, SparseMlp};
use crate::ops;
use crate::parameters::{Architecture, Parameters};
use crate::profile::{measure, Part};
use crate::routing::RoutingPolicy;
use crate::rows::Rows;
use crate::stack::{CachedPass, Stack};
use crate::trace::Trace;
use crate::training::TrainingPass;
use crate::weight::Weight;

/// A cache reserves room for at most this many tokens a slot beforehand; longer ones grow.
const MAX_RESERVED_TOKENS: usize = 512;
/// And for at most this many bytes in all.
const MAX_RESERVED_BYTES: usize = 256 << 20;

/// What a stack reads: token ids, or vectors in their place.
pub enum Tokens<'a> {
    Ids(&'a [u32]),
    /// `[tokens, d_model]`.
    Embeds(Tensor),
}

/// Where the experts of a model on a CUDA device are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExpertDevice {
    /// Where the rest is.
    #[default]
    Model,
    /// In host memory: computed there, or copied as they are chosen, whichever a measurement at load says is faster.
    Host,
}

/// How [`SwitchTransformers::choose`] takes a token from each row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenChoice<'a> {
    /// One per row from 0 up to 1, to draw by; `None`: the largest logit, the lowest id among equals.
    pub uniforms: Option<&'a [f64]>,
    pub temperature: f32,
    /// 0: all.
    pub top_k: usize,
    /// 1: all.
    pub top_p: f64,
}

struct Sequence {
    encoder_embedding: Weight,
    decoder_embedding: Weight,
    encoder: Stack,
    decoder: Option<Stack>,
    head: Option<Weight>,
}

enum Parts {
    Sequence(Box<Sequence>),
    Router(Router),
    SparseMlp(SparseMlp),
}

/// A model with its weights. Shared and never changed; caches and sessions are the caller's.
pub struct SwitchTransformers {
    config: Arc<SwitchTransformersConfig>,
    architecture: Architecture,
    policy: RoutingPolicy,
    parameters: Parameters,
    bank: Arc<ExpertBank>,
    parts: Parts,
    device: Device,
    unadapted: Option<Arc<SwitchTransformers>>,
}

impl SwitchTransformers {
    /// Puts a model together from all of its parameters.
    pub fn build(
        config: SwitchTransformersConfig,
        architecture: Architecture,
        policy: RoutingPolicy,
        parameters: Parameters,
    ) -> Result<Self> {
        let config = Arc::new(config);
        let mut bank = ExpertBank::default();
        let parts = match architecture {
            Architecture::Router => Parts::Router(Router::build(&config, &parameters, "classifier")?),
            Architecture::SparseMlp => Parts::SparseMlp(SparseMlp::build(&config, &parameters, "", &mut bank)?),
            _ => {
                let encoder = Stack::build(&config, &parameters, false, &mut bank)?;
                let decoder = match architecture.has_decoder() {
                    true => Some(Stack::build(&config, &parameters, true, &mut bank)?),
                    false => None,
                };
                let shared = parameters.get("shared.weight")?;
                // Untied models have an embedding per stack beside the shared one.
                let embedding = |stack: &str, has: bool| match has && !config.tie_word_embeddings {
                    true => parameters.get(&format!("{stack}.embed_tokens.weight")),
                    false => Ok(shared.clone()),
                };
                let encoder_embedding = embedding("encoder", true)?;
                let decoder_embedding = embedding("decoder", architecture.has_decoder())?;
                let head = match architecture == Architecture::ConditionalGeneration {
                    true if config.tie_word_embeddings => Some(shared.clone()),
                    true => Some(parameters.get("lm_head.weight")?),
                    false => None,
                };
                Parts::Sequence(Box::new(Sequence { encoder_embedding, decoder_embedding, encoder, decoder, head }))
            }
        };
        let (bank, device) = (Arc::new(bank), Device::Cpu);
        Ok(Self { config, architecture, policy, parameters, bank, parts, device, unadapted: None })
    }

    /// The same model, computing on `device`. Its weights go there when they are first used; `OUT_OF_MEMORY` where they
    /// would not fit.
    pub fn on(self, device: Device, experts: ExpertDevice) -> Result<Self> {
        self.placed(device, experts, 0)
    }

    /// [`Self::on`] for a training, whose gradients take `gradient_bytes` there.
    pub fn training_on(self, device: Device, gradient_bytes: u64) -> Result<Self> {
        self.placed(device, ExpertDevice::Model, gradient_bytes)
    }

    fn placed(mut self, device: Device, experts: ExpertDevice, more_bytes: u64) -> Result<Self> {
        let _ = (experts, more_bytes);
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            let bytes = |experts: bool| -> u64 {
                let of = self.parameters.iter().filter(|(name, _)| name.contains(".experts.expert_") == experts);
                of.map(|(_, weight)| weight.values().bytes() as u64).sum()
            };
            let on_host = experts == ExpertDevice::Host;
            let expert_bytes = bytes(true);
            crate::cuda::check_room(&device, bytes(false) + more_bytes, if on_host { 0 } else { expert_bytes })?;
            if let (true, Some(bank)) = (on_host, Arc::get_mut(&mut self.bank)) {
                bank.keep_on_host(&device, self.config.activation)?;
            }
        }
        self.device = device;
        Ok(self)
    }

    /// This model stands in the place of `base`, whose weights it has with adapters.
    pub fn in_place_of(mut self, base: Arc<Self>) -> Self {
        self.unadapted = Some(base);
        self
    }

    /// The model without its adapters, if any were loaded.
    pub fn unadapted(&self) -> Option<&Arc<Self>> {
        self.unadapted.as_ref()
    }

    /// The same model with its adapters for good: what it was without them is forgotten.
    pub fn merged(&self) -> Result<Self> {
        let config = self.config.as_ref().clone();
        Self::build(config, self.architecture, self.policy, self.parameters.clone())?
            .on(self.device.clone(), self.expert_device())
    }

    /// Where its experts are.
    pub fn expert_device(&self) -> ExpertDevice {
        match self.experts_on_host() {
            true => ExpertDevice::Host,
            false => ExpertDevice::Model,
        }
    }

    /// Whether its experts stay in host memory while it computes elsewhere.
    pub fn experts_on_host(&self) -> bool {
        #[cfg(feature = "cuda")]
        let on_host = self.bank.on_host().is_some();
        #[cfg(not(feature = "cuda"))]
        let on_host = false;
        on_host
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn config(&self) -> &Arc<SwitchTransformersConfig> {
        &self.config
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn policy(&self) -> &RoutingPolicy {
        &self.policy
    }

    fn embed(&self, tokens: Tokens<'_>, table: &Weight) -> Result<Tensor> {
        measure(Part::Embedding, || self.embedded(tokens, table))
    }

    fn embedded(&self, tokens: Tokens<'_>, table: &Weight) -> Result<Tensor> {
        match tokens {
            Tokens::Ids(ids) if ops::recording() => ops::trained_embedding(table, ids, &self.device),
            Tokens::Ids(ids) => ops::embedding(table, ids, &self.device),
            Tokens::Embeds(x) => {
                let (_, width) = ops::flat_dims(&x)?;
                if width != self.config.d_model {
                    let message = format!("found embeddings of width {width}, expected {}", self.config.d_model);
                    return Err(ModelError::input(message));
                }
                Ok(x.to_device(&self.device)?)
            }
        }
    }

    fn lacks(&self, what: &str) -> ModelError {
        ModelError::input(format!("{} has no {what}; use another class", self.architecture.name()))
    }

    fn sequence(&self, part: &str) -> Result<&Sequence> {
        match &self.parts {
            Parts::Sequence(sequence) => Ok(sequence),
            _ => Err(self.lacks(part)),
        }
    }

    fn decoder(&self) -> Result<&Stack> {
        self.sequence("decoder")?.decoder.as_ref().ok_or_else(|| self.lacks("decoder"))
    }

    /// The encoder's output `[tokens, d_model]`.
    pub fn encode(&self, tokens: Tokens<'_>, rows: &Rows, trace: &mut Trace) -> Result<Tensor> {
        self.encode_in(None, tokens, rows, trace)
    }

    /// [`SwitchTransformers::encode`], in training.
    pub fn encode_in(
        &self,
        training: Option<&TrainingPass>,
        tokens: Tokens<'_>,
        rows: &Rows,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let parts = self.sequence("encoder")?;
        let x = self.embed(tokens, &parts.encoder_embedding)?;
        parts.encoder.encode(x, rows, &self.policy, &self.bank, training, trace)
    }

    /// The decoder's output `[tokens, d_model]` of a whole pass; row `i` reads encoder row `i`.
    pub fn decode(
        &self,
        tokens: Tokens<'_>,
        rows: &Rows,
        encoder_hidden_states: &Tensor,
        encoder_rows: &Rows,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        self.decode_in(None, tokens, rows, encoder_hidden_states, encoder_rows, trace)
    }

    /// [`SwitchTransformers::decode`], in training.
    pub fn decode_in(
        &self,
        training: Option<&TrainingPass>,
        tokens: Tokens<'_>,
        rows: &Rows,
        encoder_hidden_states: &Tensor,
        encoder_rows: &Rows,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let decoder = self.decoder()?;
        if rows.count() != encoder_rows.count() {
            let message = format!("found {} decoder rows for {} encoder rows", rows.count(), encoder_rows.count());
            return Err(ModelError::input(message));
        }
        let key_values = self.cross_key_values(encoder_hidden_states)?;
        let row_of: Vec<usize> = (0..rows.count()).collect();
        let cross = CrossRows { encoder_rows, row_of: &row_of };
        decoder.decode(
            self.embed(tokens, &self.sequence("decoder")?.decoder_embedding)?,
            rows,
            cross,
            &key_values,
            None,
            &self.policy,
            &self.bank,
            training,
            trace,
        )
    }

    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> Result<Vec<CrossKeyValues>> {
        let (_, width) = ops::flat_dims(encoder_hidden_states)?;
        if width != self.config.d_model {
            let message = format!("found encoder states of width {width}, expected {}", self.config.d_model);
            return Err(ModelError::input(message));
        }
        let states = encoder_hidden_states.to_device(&self.device)?;
        measure(Part::Attention, || self.decoder()?.cross_key_values(&states))
    }

    /// An empty cache with one slot per entry of `row_of_slot`, which names the encoder row it reads.
    /// `expected_tokens` a slot are made room for.
    pub fn cache(
        &self,
        encoder_hidden_states: &Tensor,
        encoder_rows: Rows,
        row_of_slot: Vec<usize>,
        expected_tokens: usize,
    ) -> Result<DecoderCache> {
        if let Some(row) = row_of_slot.iter().find(|row| **row >= encoder_rows.count()) {
            return Err(ModelError::internal(format!("a slot reads encoder row {row} of {}", encoder_rows.count())));
        }
        let cross = Arc::new(self.cross_key_values(encoder_hidden_states)?);
        let layers = self.decoder()?.layers();
        let inner = self.config.inner_dim();
        let token_bytes = row_of_slot.len().max(1) * layers.max(1) * inner * 8;
        let reserved = expected_tokens.min(MAX_RESERVED_TOKENS).min(MAX_RESERVED_BYTES / token_bytes.max(1));
        let on_host = self.device.is_cpu();
        Ok(DecoderCache::new(layers, inner, row_of_slot, Arc::new(encoder_rows), cross, reserved, on_host))
    }

    /// The decoder over cached rows: `inputs` pairs a slot with how many of `tokens` it takes, in order. `mask` marks
    /// padding among the new tokens. When it fails, the cache is as before.
    pub fn decode_cached(
        &self,
        tokens: Tokens<'_>,
        inputs: &[(usize, usize)],
        mask: Option<&[u8]>,
        cache: &mut DecoderCache,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let decoder = self.decoder()?;
        let mut segments = Vec::with_capacity(inputs.len());
        let mut row_of = Vec::with_capacity(inputs.len());
        for &(slot, len) in inputs {
            if segments.iter().any(|s: &Segment| s.slot == slot) {
                return Err(ModelError::internal(format!("slot {slot} twice in one step")));
            }
            segments.push(Segment { slot, len, past: cache.len(slot)? });
            row_of.push(cache.row_of_slot[slot]);
        }
        let rows = Rows::new(inputs.iter().map(|(_, len)| *len).collect(), mask.map(<[u8]>::to_vec))?;
        let x = self.embed(tokens, &self.sequence("decoder")?.decoder_embedding)?;
        let (encoder_rows, cross) = (Arc::clone(&cache.encoder_rows), Arc::clone(&cache.cross));
        let cross_rows = CrossRows { encoder_rows: &encoder_rows, row_of: &row_of };
        #[cfg(feature = "cuda")]
        cache.reserve_on(&self.device, &segments)?;
        cache.advance(&segments, rows.mask());
        let pass = CachedPass { cache: &mut *cache, segments: &segments };
        let result = decoder.decode(x, &rows, cross_rows, &cross, Some(pass), &self.policy, &self.bank, None, trace);
        if result.is_err() {
            cache.rewind(&segments);
        }
        result
    }

    /// The head, and what decoder outputs are scaled by before it.
    pub fn head(&self) -> Result<(&Weight, f32)> {
        let head = self.sequence("head")?.head.as_ref().ok_or_else(|| self.lacks("head"))?;
        let scale = if self.config.tie_word_embeddings { (self.config.d_model as f64).powf(-0.5) } else { 1.0 };
        Ok((head, scale as f32))
    }

    /// Vocabulary logits `[tokens, vocab_size]` of decoder outputs. Tied heads scale by `d_model^-0.5` first.
    pub fn logits(&self, decoder_output: &Tensor) -> Result<Tensor> {
        let head = self.sequence("head")?.head.as_ref().ok_or_else(|| self.lacks("head"))?;
        let x = decoder_output.to_device(&self.device)?;
        measure(Part::Head, || match self.config.tie_word_embeddings {
            true => ops::linear(&ops::scale(&x, (self.config.d_model as f64).powf(-0.5))?, head),
            false => ops::linear(&x, head),
        })
    }

    /// A token per row of [`Self::logits`], chosen where they lie: not on the CPU, and not where a row has none to choose.
    pub fn choose(&self, logits: &Tensor, choice: &TokenChoice<'_>) -> Result<Option<Vec<u32>>> {
        let _ = choice;
        match logits.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => crate::cuda::choose(logits, choice),
            _ => Ok(None),
        }
    }

    /// `SwitchTransformersTop1Router` or `SwitchTransformersSparseMLP` on `x` `[tokens, d_model]`: the sparse layer's
    /// output (none for the router). Logits and routes are in `trace`.
    pub fn module_forward(&self, x: &Tensor, rows: &Rows, trace: &mut Trace) -> Result<Option<Tensor>> {
        let (_, width) = ops::flat_dims(x)?;
        if width != self.config.d_model {
            let message = format!("found hidden states of width {width}, expected {}", self.config.d_model);
            return Err(ModelError::input(message));
        }
        let x = &x.to_device(&self.device)?;
        match &self.parts {
            Parts::Router(router) => {
                let dtype = self.config.router_dtype;
                let (logits, routes) = router.forward(x, rows, &self.config, &self.policy, dtype)?;
                trace.router(&logits, &routes);
                Ok(None)
            }
            Parts::SparseMlp(mlp) => {
                mlp.forward(x, rows, &self.config, &self.policy, &self.bank, None, trace).map(Some)
            }
            Parts::Sequence(_) => Err(self.lacks("hidden_states input")),
        }
    }
}

/// Picks rows of a flat activation.
pub fn select(x: &Tensor, tokens: &[usize]) -> Result<Tensor> {
    let ids: Vec<u32> = tokens.iter().map(|t| *t as u32).collect();
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return ops::select_on_cuda(x, &ids);
    }
    let index = Tensor::from_vec(ids, tokens.len(), &Device::Cpu)?;
    debug_assert_eq!(x.dtype(), DType::F32);
    Ok(x.index_select(&index, 0)?)
}
