//! Quantised weights: which parameters take which form ([`Recipe`]), and the form itself ([`QuantisedMatrix`]). The
//! layout in files is described in `docs/quantisation.md`.

mod matrix;
mod recipe;

pub use matrix::QuantisedMatrix;
pub use recipe::{Kind, Recipe, CONFIG_FIELD};
