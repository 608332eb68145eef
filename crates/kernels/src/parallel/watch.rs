//! Watching a condition for a moment before a thread goes to sleep over it.

/// Looks at the condition between two looks at the time.
const LOOKS: usize = 64;

pub(super) struct Watch;

impl Watch {
    /// Returns when `is_met`, or after about 60 us.
    pub(super) fn until(mut is_met: impl FnMut() -> bool) {
        let mut patience = Patience::default();
        loop {
            for _ in 0..LOOKS {
                if is_met() {
                    return;
                }
                std::hint::spin_loop();
            }
            if patience.is_over() {
                return;
            }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
#[derive(Default)]
struct Patience(Option<std::time::Instant>);

#[cfg(not(target_family = "wasm"))]
impl Patience {
    const TIME: std::time::Duration = std::time::Duration::from_micros(60);

    fn is_over(&mut self) -> bool {
        self.0.get_or_insert_with(std::time::Instant::now).elapsed() > Self::TIME
    }
}

/// WebAssembly has no clock of its own, so looks are counted.
#[cfg(target_family = "wasm")]
#[derive(Default)]
struct Patience(usize);

#[cfg(target_family = "wasm")]
impl Patience {
    /// Times [`LOOKS`], of about a nanosecond each.
    const TURNS: usize = 1000;

    fn is_over(&mut self) -> bool {
        self.0 += 1;
        self.0 > Self::TURNS
    }
}
