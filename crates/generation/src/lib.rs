//! Generation: options, score processors, sampling, greedy, beam and contrastive search, driven step by step over any
//! [`StepModel`]. Knows scores and token ids only; time and randomness are passed in.

mod choice;
mod error;
mod math;
mod model;
mod options;
mod process_scores;
mod processors;
mod random;
mod result;
mod session;
mod setup;
mod strategies;

pub use error::{
    GenerationError, OptionFault, INTERNAL, INVALID_INPUT, INVALID_OPTION, OUT_OF_MEMORY, UNSUPPORTED_OPTION,
};
pub use model::{StepInput, StepModel, TokenRule};
pub use options::{EarlyStopping, GenerationOptions, Strategy, SUPPORTED_OPTIONS};
pub use process_scores::process_scores;
pub use processors::{RowContext, ScorePipeline, ScoreProcessor};
pub use random::RandomStream;
pub use result::{Candidate, GenerationResult, LiveRow, RowToken, StepReport};
pub use session::Session;
pub use setup::RowInput;
