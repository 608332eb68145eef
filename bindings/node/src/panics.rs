//! Panics as error values: quiet, with their place kept for the message.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, Once};

use switch_engine::Failure;

static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics off stderr unless SWITCH_DEBUG is set. The hook is this library's own, not the process's.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let standard = std::panic::take_hook();
        let debug = std::env::var_os("SWITCH_DEBUG").is_some();
        std::panic::set_hook(Box::new(move |info| {
            if let (Some(place), Ok(mut last)) = (info.location(), PLACE.lock()) {
                *last = Some(place.to_string());
            }
            if debug {
                standard(info);
            }
        }));
    });
}

/// Runs `work`; a panic in it becomes INTERNAL.
pub fn guard<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(failure(payload.as_ref())))
}

fn failure(payload: &(dyn Any + Send)) -> Failure {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = PLACE.lock().ok().and_then(|mut last| last.take()).unwrap_or_else(|| "an unknown place".to_owned());
    Failure::new("INTERNAL", format!("a bug in switch-transformers: {message} (at {place}); please report it"))
}
