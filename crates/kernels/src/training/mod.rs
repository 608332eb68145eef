//! What training adds: forwards that keep what the way back needs, backward passes, losses and optimiser steps.
//!
//! Everything is float32 (weights may be stored in halves, as elsewhere), semantics are torch's, and results are the same
//! bit for bit whatever the number of threads: sums over tokens are cut in parts that depend on shapes alone.
//!
//! [`mod@reference`] holds the slow, obvious versions.

mod add;
mod attention;
mod attention_backward;
mod derivative;
mod dropout;
mod embedding;
mod experts;
mod feed_forward;
mod linear;
mod linears;
mod loss;
mod norm;
mod optimiser;
mod product;
pub mod reference;
mod route;
mod shared;

pub use add::{add, add_to};
pub use attention::attention_train;
pub use attention_backward::attention_backward;
pub use dropout::{dropout, Dropout};
pub use embedding::embedding_backward;
pub use experts::{experts_backward, experts_train, ExpertSink};
pub use feed_forward::{feed_forward_backward, feed_forward_train, FeedForwardPart, FeedForwardSink};
pub use linear::{linear_backward_input, linear_backward_weight, linear_backward_weight_anew, linear_train};
pub use linears::{linears_backward_input, linears_backward_weight, linears_train, WeightGradient};
pub use loss::{token_loss, TokenLossOptions, TokenLossSums};
pub use norm::rms_norm_backward;
pub use optimiser::{adafactor_step, adamw_step, all_finite, scale, sum_of_squares, Adafactor, AdafactorState, AdamW};
pub use route::route_backward;
