//! Time of a function: the best of several runs.

use std::time::{Duration, Instant};

/// Runs `f` for about a third of a second and returns the seconds of its fastest run.
pub fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || (start.elapsed() < Duration::from_millis(300) && runs < 10_000) {
        let run = Instant::now();
        f();
        best = best.min(run.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}
