//! Buffers shared by the processors of a pipeline.

use super::prefix::Histogram;
use crate::math;

/// Scores that are looked at together, so that the compiler compares them with vector instructions.
const CHUNK: usize = 32;

/// Reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    pub values: Vec<f32>,
    /// Probabilities of the possible tokens up to a common factor.
    pub weights: Vec<f32>,
    pub heap: Vec<f32>,
    pub histogram: Histogram,
    /// Sort keys with the token they belong to.
    pub keyed: Vec<(f32, u32)>,
    pub support: Support,
}

impl Scratch {
    /// Leaves possible only the tokens of the first `count` of `keyed`, which holds all that are possible now.
    pub fn keep_sorted(&mut self, count: usize, scores: &mut [f32]) {
        let Some((kept, removed)) = self.keyed.split_at_checked(count) else { return };
        for (_, token) in removed {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        self.support.tokens.clear();
        self.support.tokens.extend(kept.iter().map(|(_, token)| *token));
        self.support.tokens.sort_unstable();
        self.support.known = true;
    }

    /// Puts the log-probabilities of the possible tokens into `values` and their `weights` beside them. The weights' sum,
    /// and the entropy.
    pub fn log_probabilities(&mut self, scores: &[f32]) -> (f64, f64) {
        let total = self.support.weights(scores, &mut self.weights);
        self.support.gather(scores, &mut self.values);
        let top = math::max(&self.values);
        let log_total = libm::log(total);
        // -sum(p ln p), where ln p = (score - top) - ln(total).
        self.values.iter_mut().for_each(|score| *score -= top);
        let entropy = log_total - math::dot(&self.weights, &self.values) / total;
        self.values.iter_mut().for_each(|score| *score -= log_total as f32);
        (total, entropy)
    }

    /// Removes the tokens whose weight, as `weights` holds it for all that are possible, is below `least`, except those
    /// whose score is at least the `keep`-th largest.
    pub fn cut(&mut self, scores: &mut [f32], least: f64, keep: usize) {
        self.support.gather(scores, &mut self.values);
        let Some(kth) = kth_largest(&self.values, keep, &mut self.heap) else { return };
        let mut weights = self.weights.iter();
        self.support.retain(scores, |_, score| {
            weights.next().is_some_and(|weight| f64::from(*weight) >= least) || score >= kth
        });
    }
}

/// The tokens of a row that are still possible: those whose score is not minus infinity, in ascending order.
///
/// Once a warper has left 50 of 32,128, the next ones look at 50.
#[derive(Debug, Default)]
pub struct Support {
    known: bool,
    tokens: Vec<u32>,
}

impl Support {
    /// A new row's scores are not known yet.
    pub fn forget(&mut self) {
        self.known = false;
    }

    /// The possible tokens of `scores`.
    pub fn of(&mut self, scores: &[f32]) -> &[u32] {
        if !self.known {
            self.tokens.clear();
            let possible = (0_u32..).zip(scores).filter(|(_, score)| **score != f32::NEG_INFINITY);
            self.tokens.extend(possible.map(|(token, _)| token));
            self.known = true;
        }
        &self.tokens
    }

    /// The possible tokens, if they are known and few of all `tokens`.
    pub fn known_few(&self, tokens: usize) -> Option<&[u32]> {
        (self.known && self.tokens.len() <= tokens / 8).then_some(&self.tokens)
    }

    /// Makes impossible, in `scores` too, every token for which `keep` is false.
    pub fn retain(&mut self, scores: &mut [f32], mut keep: impl FnMut(u32, f32) -> bool) {
        self.of(scores);
        self.tokens.retain(|token| {
            let Some(score) = scores.get_mut(*token as usize) else { return false };
            let kept = keep(*token, *score);
            if !kept {
                *score = f32::NEG_INFINITY;
            }
            kept
        });
    }

    /// As [`retain`](Self::retain), for a condition on the score alone.
    pub fn retain_at_least(&mut self, scores: &mut [f32], least: f32) {
        if self.known {
            self.retain(scores, |_, score| score >= least || score.is_nan());
            return;
        }
        self.tokens.clear();
        for (first, chunk) in (0_u32..).step_by(CHUNK).zip(scores.chunks_mut(CHUNK)) {
            // Most chunks have nothing to keep.
            if chunk.iter().fold(true, |all, score| all & (*score < least)) {
                chunk.fill(f32::NEG_INFINITY);
                continue;
            }
            for (token, score) in (first..).zip(chunk) {
                if *score < least {
                    *score = f32::NEG_INFINITY;
                } else if *score != f32::NEG_INFINITY {
                    self.tokens.push(token);
                }
            }
        }
        self.known = true;
    }

    /// The scores of the possible tokens, in their order, in `values`.
    pub fn gather(&mut self, scores: &[f32], values: &mut Vec<f32>) {
        values.clear();
        let tokens = self.of(scores);
        if tokens.len() == scores.len() {
            values.extend_from_slice(scores);
        } else {
            values.extend(tokens.iter().filter_map(|token| scores.get(*token as usize)));
        }
    }

    /// The probabilities of the possible tokens up to a common factor, in their order, in `weights`; their sum.
    pub fn weights(&mut self, scores: &[f32], weights: &mut Vec<f32>) -> f64 {
        self.gather(scores, weights);
        let top = math::max(weights);
        math::exp_in_place(weights, top);
        math::sum(weights)
    }
}

/// The `k`-th largest of `values` (NaN counts as largest), or the smallest if there are fewer; `None` of none.
pub fn kth_largest(values: &[f32], k: usize, heap: &mut Vec<f32>) -> Option<f32> {
    heap.clear();
    for chunk in values.chunks(CHUNK) {
        // Once the heap is full, most chunks hold nothing for it.
        let full = heap.len() >= k;
        let least = heap.first().copied().unwrap_or(f32::NEG_INFINITY);
        if full && chunk.iter().fold(true, |all, value| all & (*value <= least)) {
            continue;
        }
        for value in chunk {
            let value = if value.is_nan() { f32::INFINITY } else { *value };
            if heap.len() < k {
                heap.push(value);
                let last = heap.len() - 1;
                sift_up(heap, last);
            } else if let Some(least) = heap.first_mut().filter(|least| value > **least) {
                *least = value;
                sift_down(heap);
            }
        }
    }
    heap.first().copied()
}

fn sift_up(heap: &mut [f32], mut child: usize) {
    while child > 0 {
        let parent = (child - 1) / 2;
        if heap.get(child) >= heap.get(parent) {
            return;
        }
        heap.swap(child, parent);
        child = parent;
    }
}

fn sift_down(heap: &mut [f32]) {
    let mut parent = 0;
    loop {
        let left = 2 * parent + 1;
        let right = left + 1;
        let least = match (heap.get(left), heap.get(right)) {
            (Some(a), Some(b)) if b < a => right,
            (Some(_), _) => left,
            (None, _) => return,
        };
        if heap.get(parent) <= heap.get(least) {
            return;
        }
        heap.swap(parent, least);
        parent = least;
    }
}
