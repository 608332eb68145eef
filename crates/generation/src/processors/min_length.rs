use super::{forbid, RowContext, ScoreProcessor, Scratch};

/// `min_length`: forbids the end tokens until the row, prefix included, is that long.
#[derive(Debug)]
pub struct MinLength {
    pub length: usize,
    pub eos_token_id: Vec<u32>,
}

impl ScoreProcessor for MinLength {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        if row.ids.len() < self.length {
            forbid(scores, &self.eos_token_id);
        }
    }
}

/// `min_new_tokens`: forbids the end tokens until that many tokens follow the prefix.
#[derive(Debug)]
pub struct MinNewTokens {
    pub count: usize,
    pub eos_token_id: Vec<u32>,
}

impl ScoreProcessor for MinNewTokens {
    fn apply(&self, row: &RowContext<'_>, scores: &mut [f32], _: &mut Scratch) {
        if row.ids.len().saturating_sub(row.prompt_length) < self.count {
            forbid(scores, &self.eos_token_id);
        }
    }
}
