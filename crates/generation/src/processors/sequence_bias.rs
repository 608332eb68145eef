use std::collections::BTreeMap;

use super::{RowContext, ScoreProcessor, Scratch};

/// `sequence_bias`: adds to the score of a token that would complete a sequence. The last of equal sequences counts.
#[derive(Debug)]
pub struct SequenceBias {
    /// Prefix, last token, bias.
    sequences: Vec<(Vec<u32>, u32, f32)>,
}

impl SequenceBias {
    pub fn new<'a>(sequences: impl Iterator<Item = (&'a [u32], f32)>) -> Self {
        let unique: BTreeMap<&[u32], f32> = sequences.collect();
        let split = unique.into_iter().filter_map(|(ids, bias)| {
            let (last, prefix) = ids.split_last()?;
            Some((prefix.to_vec(), *last, bias))
        });
        Self { sequences: split.collect() }
    }
}

impl ScoreProcessor for SequenceBias {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        for (prefix, last, bias) in &self.sequences {
            if row.ids.ends_with(prefix) {
                if let Some(score) = scores.get_mut(*last as usize) {
                    *score += bias;
                }
            }
        }
    }
}
