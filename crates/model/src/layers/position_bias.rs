//! T5's relative position bias, by distance: layer 0's table serves the whole stack, whatever the lengths.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::SwitchTransformersConfig;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::weight::Weight;

/// Bias by distance: `values` `[heads, span]`, the key at the query's own position at `zero`.
pub struct BiasSpan {
    pub values: Vec<f32>,
    pub span: usize,
    pub zero: usize,
    /// The bucket of each distance.
    buckets: Vec<usize>,
    /// What the values were read from.
    table: Weight,
    #[cfg(feature = "cuda")]
    cuda: crate::cuda::WeightCopy,
}

impl BiasSpan {
    /// The values' copy on a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_copy(&self) -> &crate::cuda::WeightCopy {
        &self.cuda
    }

    /// Whether training changes the table.
    pub fn learns(&self) -> bool {
        self.table.trainable().is_some()
    }

    /// Adds a gradient by distance, `[heads, span]`, to the table's.
    pub fn add_gradient(&self, gradient: &[f32]) -> Result<()> {
        let Some(trainable) = self.table.trainable() else { return Ok(()) };
        let heads = gradient.len() / self.span.max(1);
        trainable.add(|table| {
            for (head, row) in gradient.chunks_exact(self.span.max(1)).enumerate() {
                for (bucket, value) in self.buckets.iter().zip(row) {
                    if let Some(sum) = table.get_mut(bucket * heads + head) {
                        *sum += value;
                    }
                }
            }
            Ok(())
        })
    }
}

pub struct PositionBias {
    /// `[num_buckets, heads]`.
    table: Weight,
    heads: usize,
    buckets: usize,
    max_distance: usize,
    bidirectional: bool,
    /// The longest span made so far.
    made: RwLock<Option<Arc<BiasSpan>>>,
}

impl PositionBias {
    pub fn build(
        config: &SwitchTransformersConfig,
        parameters: &Parameters,
        name: &str,
        bidirectional: bool,
    ) -> Result<Self> {
        Ok(Self {
            table: parameters.f32(name)?,
            heads: config.num_heads,
            buckets: config.relative_attention_num_buckets,
            max_distance: config.relative_attention_max_distance,
            bidirectional,
            made: RwLock::new(None),
        })
    }

    /// A span that covers rows of `len` positions. Made once and kept, unless the table is being trained; grows by
    /// doubling.
    pub fn span(&self, len: usize) -> Result<Arc<BiasSpan>> {
        if self.table.trainable().is_some() {
            return self.make(len.max(1));
        }
        if let Some(made) = self.made.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            if made.zero + 1 >= len {
                return Ok(Arc::clone(made));
            }
        }
        let made = self.make(len.next_power_of_two().max(64))?;
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The biases of distances below `reach` in both directions.
    fn make(&self, reach: usize) -> Result<Arc<BiasSpan>> {
        let table = self.table.as_f32()?;
        let span = 2 * reach - 1;
        let zero = reach - 1;
        let buckets: Vec<usize> = (0..span)
            .map(|at| bucket(at as i64 - zero as i64, self.bidirectional, self.buckets, self.max_distance))
            .collect();
        let mut values = vec![0f32; self.heads * span];
        for (head, row) in values.chunks_exact_mut(span).enumerate() {
            for (value, bucket) in row.iter_mut().zip(&buckets) {
                *value = table[bucket * self.heads + head];
            }
        }
        Ok(Arc::new(BiasSpan {
            values,
            span,
            zero,
            buckets,
            table: self.table.clone(),
            #[cfg(feature = "cuda")]
            cuda: Default::default(),
        }))
    }
}

/// The bucket of a key `distance` positions after the query (reference: `_relative_position_bucket`).
///
/// The logarithm is rounded to float32 before the divisions, which are float32 as in the reference: at powers of two the
/// bucket hangs on that.
pub fn bucket(distance: i64, bidirectional: bool, num_buckets: usize, max_distance: usize) -> usize {
    let mut buckets = num_buckets;
    let mut first = 0;
    let distance = if bidirectional {
        buckets /= 2;
        if distance > 0 {
            first = buckets;
        }
        distance.unsigned_abs() as usize
    } else {
        distance.min(0).unsigned_abs() as usize
    };
    let max_exact = buckets / 2;
    if distance < max_exact {
        return first + distance;
    }
    let ratio = distance as f32 / max_exact as f32;
    let log = f64::from(ratio).ln() as f32;
    let scale = (max_distance as f64 / max_exact as f64).ln() as f32;
    let large = max_exact + (log / scale * (buckets - max_exact) as f32) as usize;
    first + large.min(buckets - 1)
}
