//! What a session reports on the way and in the end.

/// A token decided for an output row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowToken {
    /// The output row: `batch row * num_return_sequences + sequence`.
    pub row: usize,
    pub token: u32,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepReport {
    /// New tokens of output rows, end tokens included. Empty for beams, whose tokens are not settled until the end.
    pub tokens: Vec<RowToken>,
    /// Output rows that this step finished.
    pub finished: Vec<usize>,
    /// Whether every row has finished.
    pub done: bool,
}

/// A row of scores that the host may look at and change before the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRow<'a> {
    /// The batch row.
    pub row: usize,
    /// Which of the row's sequences, or beams, this is.
    pub index: usize,
    /// Its ids so far, prefix included.
    pub ids: &'a [u32],
}

/// A continuation chosen in this step, which the host may stop before it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The batch row.
    pub row: usize,
    /// Which of the row's candidates this is.
    pub index: usize,
    /// Its ids, prefix and the new token included.
    pub ids: Vec<u32>,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationResult {
    /// `batch rows * num_return_sequences` rows of equal length, prefix included, filled up as the reference does.
    pub sequences: Vec<Vec<u32>>,
    /// How many ids of each sequence are its own, the end token included.
    pub lengths: Vec<usize>,
    /// Of beams: the sum of log-probabilities over `length^length_penalty`.
    pub sequences_scores: Option<Vec<f32>>,
    /// With `output_scores`: for each step the scores from which tokens were chosen, `[slots, vocabulary]` row-major,
    /// a slot being a sequence or a beam. Zero where a row had finished.
    pub scores: Option<Vec<Vec<f32>>>,
    /// With `output_logits`: as `scores`, what the model computed.
    pub logits: Option<Vec<Vec<f32>>>,
    /// Of beams: for each sequence and step, the beam (`batch row * num_beams + beam`) it then continued; -1 after its
    /// end.
    pub beam_indices: Option<Vec<Vec<i32>>>,
    /// Decoding steps taken.
    pub steps: usize,
}
