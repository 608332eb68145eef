//! Random numbers as a function: of the seed, the row's own content, the step and the draw, and of nothing else.
//!
//! Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011), a counter-based
//! generator: there is no state to share, so a row draws the same numbers alone, in a batch, at any place in it, on any
//! number of threads and on every platform. Rows of equal content draw equally; the sequences of one row differ.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The random numbers of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomStream {
    key: [u32; 2],
    content: u64,
}

impl RandomStream {
    /// `content` tells rows apart, see [`content_of`]; `sequence` tells a row's sequences apart.
    pub fn new(seed: u64, content: u64, sequence: usize) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], content: mix(content ^ mix(sequence as u64)) }
    }

    /// A number from 0 up to, not including, 1, in steps of 2^-53, for one draw of one step.
    pub fn uniform(&self, step: u32, draw: u32) -> f64 {
        let [low, high, _, _] = philox([step, draw, self.content as u32, (self.content >> 32) as u32], self.key);
        let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A draw from the standard Gumbel distribution.
    pub fn gumbel(&self, step: u32, draw: u32) -> f64 {
        // Half a step above 0, so that the logarithm is finite.
        let uniform = self.uniform(step, draw) + 0.5 / 9_007_199_254_740_992.0;
        -libm::log(-libm::log(uniform))
    }
}

/// A number for a row's ids; `padding` is left out, so that it does not depend on the batch's width.
pub fn content_of(encoder_ids: &[u32], prefix: &[u32], padding: u32) -> u64 {
    let encoder = encoder_ids.iter().filter(|id| **id != padding);
    let separator = std::iter::once(&u32::MAX);
    encoder.chain(separator).chain(prefix).fold(0, |hash, id| mix(hash ^ u64::from(*id)))
}

/// SplitMix64's finaliser, after an increment.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let first = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 library (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_gives_its_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_by_sequence_and_content_but_not_by_padding() {
        assert_eq!(content_of(&[5, 6, 0, 0], &[0], 0), content_of(&[5, 6], &[0], 0));
        assert_ne!(content_of(&[5, 6], &[0], 0), content_of(&[6, 5], &[0], 0));
        assert_ne!(content_of(&[5], &[6], 9), content_of(&[5, 6], &[], 9));
        assert_ne!(RandomStream::new(1, 2, 0), RandomStream::new(1, 2, 1));
    }

    #[test]
    fn uniforms_are_uniform() {
        let stream = RandomStream::new(7, 1, 0);
        let mean = (0..100_000).map(|step| stream.uniform(step, 0)).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let mean = (0..100_000).map(|step| stream.gumbel(step, 3)).sum::<f64>() / 100_000.0;
        assert!((mean - 0.577_215_7).abs() < 0.02, "{mean}");
    }
}
