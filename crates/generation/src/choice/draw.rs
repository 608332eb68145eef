use crate::processors::Scratch;

/// Draws a token by `softmax(scores)`: the one at which the cumulative probability passes `uniform`, in order of ids.
/// `None` if the scores are no distribution (all minus infinity, or one is plus infinity).
pub fn draw(scores: &[f32], uniform: f64, scratch: &mut Scratch) -> Option<u32> {
    let total = scratch.support.weights(scores, &mut scratch.weights);
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let target = uniform * total;
    let mut cumulative = 0.0_f64;
    let mut last = None;
    for (token, weight) in scratch.support.of(scores).iter().zip(&scratch.weights) {
        if *weight > 0.0 {
            cumulative += f64::from(*weight);
            last = Some(*token);
            if cumulative > target {
                break;
            }
        }
    }
    last
}
