//! Where a pass spends its time, for those who ask: a clock is read around each part and nothing else changes.
//!
//! A profile is filled by what runs on its thread inside [`Profile::record`]. Parts may lie within parts: each counts its own
//! time only.

use std::cell::RefCell;

use serde::Serialize;

/// Parts that time is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Embedding,
    /// Projections, scores and values of self- and cross-attention, and the encoder's keys and values for the decoder.
    Attention,
    Routing,
    Experts,
    /// Dense feed-forward layers.
    FeedForward,
    Head,
    /// Processors, warpers, drawing, beams.
    Sampling,
    /// Norms, residuals, and what else there is.
    Other,
}

const PARTS: usize = 8;

/// Milliseconds by part.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    pub total_ms: f64,
    pub embedding_ms: f64,
    pub attention_ms: f64,
    pub routing_ms: f64,
    pub experts_ms: f64,
    pub feed_forward_ms: f64,
    pub head_ms: f64,
    pub sampling_ms: f64,
    pub other_ms: f64,
    /// Per sparse layer (the encoder's first), by expert: experts run together, so that a layer's time is shared out by the
    /// tokens that each took.
    pub expert_ms: Vec<Vec<f64>>,
    /// Likewise, the tokens.
    pub expert_tokens: Vec<Vec<u64>>,
}

struct Running {
    now_ms: fn() -> f64,
    own: [f64; PARTS],
    /// Time of the parts that ended within each part that is open.
    inner: Vec<f64>,
    /// Per layer and expert: milliseconds and tokens.
    experts: Vec<Vec<(f64, u64)>>,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Running) -> T) -> Option<T> {
    RUNNING.with(|running| running.borrow_mut().as_mut().map(f))
}

impl Profile {
    /// Adds what `f` spends, by the clock `now_ms`.
    pub fn record<T>(&mut self, now_ms: fn() -> f64, f: impl FnOnce() -> T) -> T {
        /// Stops the clock also when `f` panics.
        struct Stop;
        impl Drop for Stop {
            fn drop(&mut self) {
                RUNNING.with(|running| *running.borrow_mut() = None);
            }
        }
        let stop = Stop;
        let running = Running { now_ms, own: [0.0; PARTS], inner: Vec::new(), experts: Vec::new() };
        RUNNING.with(|slot| *slot.borrow_mut() = Some(running));
        let start = now_ms();
        let value = f();
        let total = now_ms() - start;
        let running = RUNNING.with(|slot| slot.borrow_mut().take());
        drop(stop);
        if let Some(running) = running {
            self.add(total, &running);
        }
        value
    }

    fn add(&mut self, total: f64, running: &Running) {
        let of = |part: Part| running.own[part as usize];
        self.total_ms += total;
        self.embedding_ms += of(Part::Embedding);
        self.attention_ms += of(Part::Attention);
        self.routing_ms += of(Part::Routing);
        self.experts_ms += of(Part::Experts);
        self.feed_forward_ms += of(Part::FeedForward);
        self.head_ms += of(Part::Head);
        self.sampling_ms += of(Part::Sampling);
        let named: f64 = running.own.iter().sum::<f64>() - of(Part::Other);
        self.other_ms += (total - named).max(0.0);
        for (layer, experts) in running.experts.iter().enumerate() {
            if self.expert_ms.len() <= layer {
                self.expert_ms.push(Vec::new());
                self.expert_tokens.push(Vec::new());
            }
            let (ms, tokens) = (&mut self.expert_ms[layer], &mut self.expert_tokens[layer]);
            if ms.len() < experts.len() {
                ms.resize(experts.len(), 0.0);
                tokens.resize(experts.len(), 0);
            }
            for (expert, (spent, took)) in experts.iter().enumerate() {
                ms[expert] += spent;
                tokens[expert] += took;
            }
        }
    }
}

/// Counts the time of `f` as that of `part`, where a profile is being recorded.
pub fn measure<T>(part: Part, f: impl FnOnce() -> T) -> T {
    let Some(start) = with(|running| {
        running.inner.push(0.0);
        (running.now_ms)()
    }) else {
        return f();
    };
    let value = f();
    with(|running| {
        let spent = (running.now_ms)() - start;
        let inner = running.inner.pop().unwrap_or(0.0);
        running.own[part as usize] += spent - inner;
        if let Some(outer) = running.inner.last_mut() {
            *outer += spent;
        }
    });
    value
}

/// [`measure`] of one sparse layer's experts; `chosen` is the expert of each token, below 0 for none.
pub fn measure_experts<T>(layer: usize, experts: usize, chosen: &[i32], f: impl FnOnce() -> T) -> T {
    let before = with(|running| running.own[Part::Experts as usize]);
    let value = measure(Part::Experts, f);
    let Some(before) = before else { return value };
    with(|running| {
        let spent = running.own[Part::Experts as usize] - before;
        if running.experts.len() <= layer {
            running.experts.resize(layer + 1, Vec::new());
        }
        let of_layer = &mut running.experts[layer];
        if of_layer.len() < experts {
            of_layer.resize(experts, (0.0, 0));
        }
        let routed = chosen.iter().filter(|e| **e >= 0).count().max(1) as f64;
        for expert in chosen.iter().filter_map(|e| usize::try_from(*e).ok()) {
            if let Some((ms, tokens)) = of_layer.get_mut(expert) {
                *ms += spent / routed;
                *tokens += 1;
            }
        }
    });
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static CLOCK: Cell<f64> = const { Cell::new(0.0) };
    }

    fn now() -> f64 {
        CLOCK.with(Cell::get)
    }

    fn pass(ms: f64) {
        CLOCK.with(|clock| clock.set(clock.get() + ms));
    }

    #[test]
    fn parts_count_their_own_time_and_the_rest_is_other() {
        let mut profile = Profile::default();
        measure(Part::Head, || pass(100.0)); // Not recorded.
        for _ in 0..2 {
            profile.record(now, || {
                measure(Part::Sampling, || {
                    pass(1.0);
                    measure(Part::Other, || {
                        pass(2.0);
                        measure(Part::Attention, || pass(4.0));
                        measure_experts(1, 3, &[2, 0, 2, -1], || pass(9.0));
                    });
                });
                pass(16.0);
            });
        }
        assert_eq!(profile.total_ms, 64.0);
        assert_eq!((profile.sampling_ms, profile.attention_ms, profile.experts_ms), (2.0, 8.0, 18.0));
        assert_eq!(profile.other_ms, 36.0);
        assert_eq!(profile.expert_ms, [vec![], vec![6.0, 0.0, 12.0]]);
        assert_eq!(profile.expert_tokens, [vec![], vec![2, 0, 4]]);
    }
}
