//! Time of a function: the best of several runs, on the wall and on the calling thread's processor.

use std::time::{Duration, Instant};

pub struct Time {
    pub wall: f64,
    pub cpu: f64,
}

/// Runs `f` for about a third of a second.
pub fn best(mut f: impl FnMut()) -> Time {
    f();
    let mut best = Time { wall: f64::INFINITY, cpu: f64::INFINITY };
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || (start.elapsed() < Duration::from_millis(300) && runs < 10_000) {
        let (wall, cpu) = (Instant::now(), thread_seconds());
        f();
        best.wall = best.wall.min(wall.elapsed().as_secs_f64());
        if let (Some(before), Some(after)) = (cpu, thread_seconds()) {
            best.cpu = best.cpu.min(after - before);
        }
        runs += 1;
    }
    best
}

/// Seconds that the calling thread has run, where the system tells.
fn thread_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 * 1e-9)
}
