//! Decoding strategies, one file each, behind one trait that a session drives.

mod beam;
mod contrastive;
mod group_beam;
mod hypothesis;
mod records;
mod shared;
mod single;

pub use records::Records;
pub use shared::{RowFacts, Shared};

use crate::error::GenerationError;
use crate::model::StepModel;
use crate::options::Strategy;
use crate::result::{Candidate, GenerationResult, LiveRow, StepReport};

/// A strategy's own state. See [`crate::Session`] for what the methods do and when they may be called.
pub trait Decoder: Send {
    fn done(&self) -> bool;
    /// Whether more rounds of advance, choose and commit belong to the step that has begun.
    fn within_step(&self) -> bool {
        false
    }
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
pub fn decoder(shared: &Shared) -> Box<dyn Decoder> {
    match shared.options.strategy() {
        Strategy::Greedy | Strategy::Sample => Box::new(single::Single::new(shared)),
        Strategy::Beam | Strategy::BeamSample => Box::new(beam::BeamSearch::new(shared)),
        Strategy::GroupBeam => Box::new(group_beam::GroupBeamSearch::new(shared)),
        Strategy::Contrastive => Box::new(contrastive::Contrastive::new(shared)),
    }
}
