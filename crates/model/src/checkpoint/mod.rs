//! Between a checkpoint's tensors and a model's parameters.

mod load;
mod matching;
mod reconcile;
mod save;

pub use load::{LoadDtype, Loader, Progress};
pub use reconcile::reconcile;
pub use save::SaveSource;
