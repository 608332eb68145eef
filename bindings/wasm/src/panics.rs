//! Panics as JavaScript errors. This build cannot unwind: the instance is in an unknown state afterwards, and
//! JavaScript must throw it away (`details.fatal`), with every model in it.

use switch_engine::Failure;

use crate::memory;

pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), |place| place.to_string());
        let failure = match memory::failed_allocation() {
            0 => Failure::new(
                "INTERNAL",
                format!("a bug in switch-transformers: {message} (at {place}); please report it"),
            ),
            bytes => Failure::new("OUT_OF_MEMORY", format!("{bytes} bytes more do not fit in WASM memory")),
        };
        let json = failure.with_details(serde_json::json!({ "fatal": true })).to_json();
        wasm_bindgen::throw_str(&json)
    }));
}
