//! From scores to tokens.

mod argmax;
mod draw;
mod top;

pub use argmax::argmax;
pub use draw::draw;
pub use top::{Ranked, TopList};
