//! Options that cannot be met together, refused as the reference refuses them (diverse beam search as its last version
//! that had it, 4.53).

use std::collections::BTreeSet;

use super::GenerationOptions;
use crate::error::{OptionFault, INVALID_OPTION};

impl GenerationOptions {
    pub(super) fn find_contradictions(&self, faults: &mut Vec<OptionFault>) {
        let mut refuse = |option: &str, message: String| {
            faults.push(OptionFault { code: INVALID_OPTION, option: option.to_owned(), message });
        };
        let sequences = self.num_return_sequences;
        if sequences > 1 && self.num_beams == 1 && !self.do_sample {
            refuse(
                "num_return_sequences",
                format!("num_return_sequences is {sequences}, but greedy decoding has one result; set do_sample: true or num_beams"),
            );
        }
        if sequences > self.num_beams && self.num_beams > 1 {
            refuse(
                "num_return_sequences",
                format!("num_return_sequences is {sequences}, expected at most num_beams, {}", self.num_beams),
            );
        }
        self.find_group_contradictions(&mut refuse);
        self.find_token_contradictions(&mut refuse);
    }

    fn find_group_contradictions(&self, refuse: &mut impl FnMut(&str, String)) {
        let (groups, beams) = (self.num_beam_groups, self.num_beams);
        if groups > 1 {
            if !beams.is_multiple_of(groups) || beams < groups {
                refuse(
                    "num_beam_groups",
                    format!("num_beam_groups is {groups}, expected a divisor of num_beams, {beams}"),
                );
            }
            if self.do_sample {
                refuse("num_beam_groups", format!("num_beam_groups is {groups}, which needs do_sample: false"));
            }
            if self.diversity_penalty == 0.0 {
                refuse(
                    "diversity_penalty",
                    format!("diversity_penalty is 0, expected above 0 with num_beam_groups {groups}: the groups would be identical"),
                );
            }
        } else if self.diversity_penalty > 0.0 {
            refuse(
                "diversity_penalty",
                format!("diversity_penalty is {}, which needs num_beam_groups above 1", self.diversity_penalty),
            );
        }
    }

    fn find_token_contradictions(&self, refuse: &mut impl FnMut(&str, String)) {
        if let Some(suppressed) = &self.suppress_tokens {
            let suppressed: BTreeSet<u32> = suppressed.iter().copied().collect();
            let forced = [
                ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
                ("forced_eos_token_id", self.forced_eos_token_id.as_deref().unwrap_or(&[])),
            ];
            for (name, tokens) in forced {
                if !tokens.is_empty() && tokens.iter().all(|token| suppressed.contains(token)) {
                    refuse(
                        "suppress_tokens",
                        format!("suppress_tokens holds every token of {name} ({tokens:?}): nothing could be chosen; remove it from one of them"),
                    );
                }
            }
        }
        if let Some(words) = &self.bad_words_ids {
            let ends: BTreeSet<u32> = self.eos_token_id.iter().copied().collect();
            if words.iter().all(|word| matches!(word.as_slice(), [token] if ends.contains(token))) {
                refuse(
                    "bad_words_ids",
                    "bad_words_ids holds only end tokens, which it never forbids; use min_new_tokens instead"
                        .to_owned(),
                );
            }
        }
        if self.exponential_decay_length_penalty.is_some() && self.eos_token_id.is_empty() {
            refuse(
                "exponential_decay_length_penalty",
                "exponential_decay_length_penalty needs eos_token_id: it raises the end token's score".to_owned(),
            );
        }
    }
}
