use std::collections::BTreeSet;

use super::sequence_bias::SequenceBias;

/// `bad_words_ids`: a bias of minus infinity. An end token alone is never forbidden.
pub fn bad_words(words: &[Vec<u32>], eos_token_id: &[u32]) -> SequenceBias {
    let ends: BTreeSet<u32> = eos_token_id.iter().copied().collect();
    let is_end = |word: &Vec<u32>| matches!(word.as_slice(), [token] if ends.contains(token));
    SequenceBias::new(words.iter().filter(|word| !is_end(word)).map(|word| (word.as_slice(), f32::NEG_INFINITY)))
}
