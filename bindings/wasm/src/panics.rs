//! Panics as JavaScript errors. This build cannot unwind: the instance is in an unknown state afterwards, and JavaScript
//! must throw it away, with every model in it. Unlike a failure's, the error's message is therefore no JSON.

pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), |place| place.to_string());
        wasm_bindgen::throw_str(&format!("{message} (at {place})"))
    }));
}
