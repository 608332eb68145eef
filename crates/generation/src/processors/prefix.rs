//! The shortest prefix of a sorted list whose weights reach a total, without sorting.
//!
//! Sorting 32,128 tokens takes over a millisecond; a histogram of the keys' leading bits finds the few tokens among
//! which the end lies, and only they are sorted.

/// Leading bits of a key that choose its bin: the exponent and five bits of the fraction.
const BIN_SHIFT: u32 = 18;
const BINS: usize = 1 << (31 - BIN_SHIFT);

/// So few items are sorted faster than counted.
const FEW: usize = 512;

/// Which keys come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The largest; of equals the higher token, as the reference has it, which sorts upwards.
    Largest,
    /// The smallest; of equals the lower token.
    Smallest,
}

impl First {
    /// Whether one key and token comes before or is another.
    pub fn holds(self, item: (f32, u32), than: (f32, u32)) -> bool {
        match self {
            Self::Largest => item.0 > than.0 || (item.0 == than.0 && item.1 >= than.1),
            Self::Smallest => item.0 < than.0 || (item.0 == than.0 && item.1 <= than.1),
        }
    }
}

/// Reused buffers.
#[derive(Debug, Default)]
pub struct Histogram {
    weights: Vec<f64>,
    counts: Vec<u32>,
    edge: Vec<(f32, u32, f32)>,
}

/// Where a prefix has to end.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// The weight at which it ends: the item that reaches it is the last.
    pub weight: f64,
    /// How many items it has at least, whatever they weigh.
    pub count: usize,
}

impl Histogram {
    /// The last item, as key and token, of the shortest prefix that meets `goal`. `None` if all items are needed.
    ///
    /// `keys` are not negative; `weights` and `tokens` belong to them, item by item.
    pub fn last(
        &mut self,
        first: First,
        keys: &[f32],
        weights: &[f32],
        tokens: &[u32],
        goal: Goal,
    ) -> Option<(f32, u32)> {
        let (bin, before) = if keys.len() <= FEW {
            (None, (0.0, 0))
        } else {
            self.fill(keys, weights);
            let (bin, before) = self.edge_bin(first, goal)?;
            (Some(bin), before)
        };
        let at_edge = |key: f32| bin.is_none_or(|bin| bin_of(key) == bin);
        let items = keys.iter().zip(tokens).zip(weights).filter(|((key, _), _)| at_edge(**key));
        self.edge.clear();
        self.edge.extend(items.map(|((key, token), weight)| (*key, *token, *weight)));
        self.edge.sort_unstable_by(|a, b| match first {
            First::Largest => b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)),
            First::Smallest => a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)),
        });
        let (mut weight, mut count) = before;
        for (key, token, item_weight) in &self.edge {
            weight += f64::from(*item_weight);
            count += 1;
            if weight >= goal.weight && count >= goal.count {
                return Some((*key, *token));
            }
        }
        // All are needed, or, if rounding made the bin miss what it had reached, all of the bin.
        self.edge.last().filter(|_| bin.is_some()).map(|(key, token, _)| (*key, *token))
    }

    fn fill(&mut self, keys: &[f32], weights: &[f32]) {
        self.weights.clear();
        self.weights.resize(BINS, 0.0);
        self.counts.clear();
        self.counts.resize(BINS, 0);
        for (key, weight) in keys.iter().zip(weights) {
            let bin = bin_of(*key);
            if let (Some(sum), Some(count)) = (self.weights.get_mut(bin), self.counts.get_mut(bin)) {
                *sum += f64::from(*weight);
                *count += 1;
            }
        }
    }

    /// The bin in which the prefix ends, with the weight and the number of items before it.
    fn edge_bin(&self, first: First, goal: Goal) -> Option<(usize, (f64, usize))> {
        let (mut weight, mut count) = (0.0, 0);
        for step in 0..BINS {
            let bin = if first == First::Largest { BINS - 1 - step } else { step };
            let (bin_weight, bin_count) = (*self.weights.get(bin)?, *self.counts.get(bin)? as usize);
            if bin_count > 0 && weight + bin_weight >= goal.weight && count + bin_count >= goal.count {
                return Some((bin, (weight, count)));
            }
            weight += bin_weight;
            count += bin_count;
        }
        None
    }
}

/// The leading bits of a number that is not negative: they order as the numbers do. NaN comes last.
fn bin_of(key: f32) -> usize {
    ((key.to_bits() & 0x7FFF_FFFF) >> BIN_SHIFT) as usize
}
