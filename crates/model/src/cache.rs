//! Keys and values of tokens already decoded, per slot: rows have their own lengths, and a slot is free at once.

use std::sync::Arc;

use crate::error::{ModelError, Result};
use crate::layers::CrossKeyValues;
use crate::rows::Rows;

/// One slot's keys and values in one layer, `[len, inner]` each.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    /// Room for `tokens` tokens of `inner` features, so that appending does not move what is there.
    fn reserve(&mut self, tokens: usize, inner: usize) {
        // A refusal is no fault: the cache then grows as it goes.
        let wanted = tokens.saturating_mul(inner);
        let _ = self.keys.try_reserve_exact(wanted);
        let _ = self.values.try_reserve_exact(wanted);
    }

    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        self.keys.extend_from_slice(keys);
        self.values.extend_from_slice(values);
    }

    pub fn keys(&self) -> &[f32] {
        &self.keys
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn truncate(&mut self, elements: usize) {
        self.keys.truncate(elements);
        self.values.truncate(elements);
    }

    fn copy_from(&mut self, other: &Self) {
        // `clear` and `extend` keep the room that is already there.
        self.keys.clear();
        self.keys.extend_from_slice(&other.keys);
        self.values.clear();
        self.values.extend_from_slice(&other.values);
    }
}

/// Tokens fed to one slot in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub slot: usize,
    pub len: usize,
    /// Tokens that the slot held before.
    pub past: usize,
}

/// The decoder's state: slots, and the encoder rows that they read.
pub struct DecoderCache {
    /// `[layer][slot]`.
    pub(crate) layers: Vec<Vec<LayerCache>>,
    lens: Vec<usize>,
    /// Per slot, the mask over its cached tokens; `None`: all real.
    pub(crate) masks: Vec<Option<Vec<u8>>>,
    /// Which encoder row each slot reads.
    pub(crate) row_of_slot: Vec<usize>,
    pub(crate) encoder_rows: Arc<Rows>,
    /// Per decoder layer.
    pub(crate) cross: Arc<Vec<CrossKeyValues>>,
    inner: usize,
    /// In the place of `layers`, where the model is on a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) device: crate::cuda::DeviceCache,
}

impl DecoderCache {
    pub(crate) fn new(
        layers: usize,
        inner: usize,
        row_of_slot: Vec<usize>,
        encoder_rows: Arc<Rows>,
        cross: Arc<Vec<CrossKeyValues>>,
        expected_tokens: usize,
        on_host: bool,
    ) -> Self {
        let slots = row_of_slot.len();
        let mut caches = vec![vec![LayerCache::default(); slots]; layers];
        for cache in caches.iter_mut().flatten().filter(|_| on_host) {
            cache.reserve(expected_tokens, inner);
        }
        Self {
            layers: caches,
            lens: vec![0; slots],
            masks: vec![None; slots],
            row_of_slot,
            encoder_rows,
            cross,
            inner,
            #[cfg(feature = "cuda")]
            device: crate::cuda::DeviceCache::expecting(expected_tokens),
        }
    }

    pub fn slots(&self) -> usize {
        self.lens.len()
    }

    /// Makes room on a CUDA device for `segments` to be appended.
    #[cfg(feature = "cuda")]
    pub(crate) fn reserve_on(&mut self, device: &candle_core::Device, segments: &[Segment]) -> Result<()> {
        let candle_core::Device::Cuda(device) = device else { return Ok(()) };
        let longest = segments.iter().map(|s| s.past + s.len).max().unwrap_or(0);
        let lens = self.lens.clone();
        self.device.reserve(device, self.layers.len(), self.inner, &lens, longest)
    }

    /// Tokens that a slot holds.
    pub fn len(&self, slot: usize) -> Result<usize> {
        self.lens.get(slot).copied().ok_or_else(|| ModelError::internal(format!("slot {slot} of {}", self.lens.len())))
    }

    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|len| *len == 0)
    }

    /// The number of encoder rows.
    pub fn encoder_rows(&self) -> usize {
        self.encoder_rows.count()
    }

    /// Notes tokens to be appended, with their mask where some are padding.
    pub(crate) fn advance(&mut self, segments: &[Segment], mask: Option<&[u8]>) {
        let mut at = 0;
        for segment in segments {
            let slot = segment.slot;
            let part = mask.map(|m| &m[at..at + segment.len]);
            at += segment.len;
            if part.is_some() || self.masks[slot].is_some() {
                let held = self.masks[slot].get_or_insert_with(|| vec![1; segment.past]);
                match part {
                    Some(part) => held.extend_from_slice(part),
                    None => held.resize(segment.past + segment.len, 1),
                }
            }
            self.lens[slot] = segment.past + segment.len;
        }
    }

    /// Takes back a call that failed part-way: every slot is as it was.
    pub(crate) fn rewind(&mut self, segments: &[Segment]) {
        for segment in segments {
            for layer in &mut self.layers {
                layer[segment.slot].truncate(segment.past * self.inner);
            }
            if let Some(mask) = &mut self.masks[segment.slot] {
                mask.truncate(segment.past);
            }
            self.lens[segment.slot] = segment.past;
        }
    }

    /// Slot `to` continues what slot `from` held, for all pairs at once.
    pub fn reorder(&mut self, moves: &[(usize, usize)]) -> Result<()> {
        let slots = self.slots();
        if let Some((to, from)) = moves.iter().find(|(to, from)| *to >= slots || *from >= slots) {
            return Err(ModelError::internal(format!("move of slot {from} to {to}, of {slots}")));
        }
        let moves: Vec<_> = moves.iter().copied().filter(|(to, from)| to != from).collect();
        if moves.is_empty() {
            return Ok(());
        }
        for layer in &mut self.layers {
            // Sources that are overwritten by another move have to be kept aside; only those are.
            let kept: Vec<(usize, LayerCache)> = moves
                .iter()
                .filter(|(_, from)| moves.iter().any(|(to, _)| to == from))
                .map(|(_, from)| (*from, layer[*from].clone()))
                .collect();
            for (to, from) in &moves {
                match kept.iter().find(|(slot, _)| slot == from) {
                    Some((_, cache)) => layer[*to].copy_from(cache),
                    None => {
                        let source = std::mem::take(&mut layer[*from]);
                        layer[*to].copy_from(&source);
                        layer[*from] = source;
                    }
                }
            }
        }
        #[cfg(feature = "cuda")]
        self.device.reorder(&moves, &self.lens, self.inner)?;
        let (lens, masks, rows) = (self.lens.clone(), self.masks.clone(), self.row_of_slot.clone());
        for (to, from) in moves {
            self.lens[to] = lens[from];
            self.masks[to].clone_from(&masks[from]);
            self.row_of_slot[to] = rows[from];
        }
        Ok(())
    }

    /// Frees a slot's keys and values.
    pub fn release(&mut self, slot: usize) {
        for layer in &mut self.layers {
            if let Some(cache) = layer.get_mut(slot) {
                *cache = LayerCache::default();
            }
        }
        if let Some(len) = self.lens.get_mut(slot) {
            *len = 0;
        }
    }
}
