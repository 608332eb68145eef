//! Decoding strategies, one file each, behind one trait that a session drives.

mod beam;
mod records;
mod shared;
mod single;

pub use records::Records;
pub use shared::{RowFacts, Shared};

use crate::error::{GenerationError, UNSUPPORTED_OPTION};
use crate::model::StepModel;
use crate::options::Strategy;
use crate::result::{Candidate, GenerationResult, LiveRow, StepReport};

/// A strategy's own state. See [`crate::Session`] for what the methods do and when they may be called.
pub trait Decoder: Send {
    fn done(&self) -> bool;
    fn advance(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<(), GenerationError>;
    fn live_rows(&self) -> usize;
    fn live_row(&self, index: usize) -> Option<LiveRow<'_>>;
    fn choose(
        &mut self,
        shared: &mut Shared,
        model: &mut dyn StepModel,
        out_of_time: bool,
    ) -> Result<(), GenerationError>;
    fn candidates(&self) -> usize;
    fn candidate(&self, index: usize) -> Option<Candidate>;
    fn stop_candidate(&mut self, index: usize);
    fn commit(&mut self, shared: &mut Shared, model: &mut dyn StepModel) -> Result<StepReport, GenerationError>;
    fn stop_row(&mut self, shared: &mut Shared, row: usize, model: &mut dyn StepModel);
    fn finish(self: Box<Self>, shared: Shared) -> GenerationResult;
}

/// The state at the beginning of what the options ask for.
pub fn decoder(shared: &Shared) -> Result<Box<dyn Decoder>, GenerationError> {
    let name = match shared.options.strategy() {
        Strategy::Greedy | Strategy::Sample => return Ok(Box::new(single::Single::new(shared))),
        Strategy::Beam | Strategy::BeamSample => return Ok(Box::new(beam::BeamSearch::new(shared))),
        Strategy::GroupBeam => "num_beam_groups",
        Strategy::Contrastive => "penalty_alpha",
    };
    Err(GenerationError::option(UNSUPPORTED_OPTION, name, format!("{name} is not available; leave it out")))
}
