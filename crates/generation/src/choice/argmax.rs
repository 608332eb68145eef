use crate::math;

/// The token of the largest score, the lowest id among equals. Scores without NaN; 0 if all are minus infinity.
pub fn argmax(scores: &[f32]) -> usize {
    // Two passes that vectorise are faster than one that does not.
    let top = math::max(scores);
    scores.iter().position(|score| *score == top).unwrap_or(0)
}
