//! The best few of many.

/// A candidate: its score and its place among all. The higher score is better; of equals, the lower place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked<S> {
    pub score: S,
    pub place: usize,
}

/// The best `limit` of the candidates offered, best first.
#[derive(Debug)]
pub struct TopList<S> {
    limit: usize,
    best: Vec<Ranked<S>>,
}

impl<S: PartialOrd + Copy> TopList<S> {
    pub fn new(limit: usize) -> Self {
        Self { limit, best: Vec::new() }
    }

    /// Candidates must be offered in ascending order of place.
    #[inline]
    pub fn offer(&mut self, score: S, place: usize) {
        if self.best.len() < self.limit || self.best.last().is_some_and(|worst| score > worst.score) {
            self.insert(Ranked { score, place });
        }
    }

    /// The score that a candidate has to exceed, once the list is full.
    pub fn bar(&self) -> Option<S> {
        self.best.last().filter(|_| self.best.len() == self.limit).map(|worst| worst.score)
    }

    fn insert(&mut self, candidate: Ranked<S>) {
        // A later place goes behind its equals.
        let position = self.best.partition_point(|other| other.score >= candidate.score);
        if self.best.len() == self.limit {
            self.best.pop();
        }
        self.best.insert(position.min(self.best.len()), candidate);
    }

    pub fn into_best(self) -> Vec<Ranked<S>> {
        self.best
    }
}

impl TopList<f32> {
    /// Offers every score of a row plus `offset`, the first of them at `place`.
    pub fn offer_row(&mut self, scores: &[f32], offset: f32, place: usize) {
        const CHUNK: usize = 32;
        for (first, chunk) in (place..).step_by(CHUNK).zip(scores.chunks(CHUNK)) {
            // Most chunks hold nothing good enough; comparing all of a chunk takes vector instructions.
            let bar = self.bar();
            if bar.is_some_and(|bar| !chunk.iter().fold(false, |any, score| any | (score + offset > bar))) {
                continue;
            }
            for (place, score) in (first..).zip(chunk) {
                self.offer(score + offset, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_in_order_and_the_lowest_place_among_equals() {
        let mut top = TopList::new(3);
        for (place, score) in [1.0, 5.0, 3.0, 5.0, f32::NEG_INFINITY, 3.0].into_iter().enumerate() {
            top.offer(score, place);
        }
        let places: Vec<usize> = top.into_best().iter().map(|ranked| ranked.place).collect();
        assert_eq!(places, [1, 3, 2]);
        let mut none = TopList::new(0);
        none.offer(1.0, 0);
        assert!(none.into_best().is_empty());
    }
}
