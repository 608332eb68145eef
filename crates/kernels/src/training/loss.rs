//! The language model's loss over a chunk of tokens, with its gradient in the place of the logits.

use super::attention::{largest, sum};
use super::shared::Shared;
use crate::error::{expect_len, product, KernelError};
use crate::math;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{self, Op, Simd};
use std::sync::Mutex;

/// How [`token_loss`] weighs its parts. The default is plain cross entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLossOptions {
    /// Share of the target that is spread evenly over the vocabulary, as in torch's `CrossEntropyLoss`.
    pub label_smoothing: f32,
    /// Factor of the squared log-sum-exp.
    pub z_loss: f32,
    /// Labels of this value are left out.
    pub ignore_index: i64,
    /// Factor of the cross entropy against the labels.
    pub hard_weight: f32,
    /// Factor of the cross entropy against the teacher; not used without one.
    pub soft_weight: f32,
    /// What teacher's and student's logits are divided by before they are compared.
    pub temperature: f32,
}

impl Default for TokenLossOptions {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            z_loss: 0.0,
            ignore_index: -100,
            hard_weight: 1.0,
            soft_weight: 0.0,
            temperature: 1.0,
        }
    }
}

/// Sums over the tokens that are not left out, without the factors of [`TokenLossOptions`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenLossSums {
    /// Cross entropy against the (smoothed) labels.
    pub hard: f64,
    /// Squared log-sum-exp.
    pub z: f64,
    /// Cross entropy of the student's softmax against the teacher's, both at the temperature, times its square; 0 without a
    /// teacher.
    pub soft: f64,
    /// Tokens.
    pub count: u64,
    /// Tokens whose largest logit, the first among equals, is the label's.
    pub correct: u64,
}

/// Loss of `logits [n, vocab]` against `labels [n]`: `hard_weight · CE(labels) + z_loss · lse² + soft_weight · T² ·
/// CE(softmax(teacher / T), logits / T)`, summed over tokens.
///
/// With `gradient`, `logits` are overwritten by the gradient of that sum times this number (1 over the number of tokens for
/// a mean), which is 0 for labels that are left out; else they stay as they are. `teacher` is `[n, vocab]` as well. A
/// label that is neither in the vocabulary nor `ignore_index` is an error, and then nothing has been written.
pub fn token_loss(
    logits: &mut [f32],
    vocab: usize,
    labels: &[i64],
    teacher: Option<&[f32]>,
    options: &TokenLossOptions,
    gradient: Option<f32>,
) -> Result<TokenLossSums, KernelError> {
    if vocab == 0 {
        return Err(KernelError::Dimension { what: "vocabulary", expected: "1 or more", found: 0 });
    }
    expect_len("logits", logits.len(), product("logits", labels.len(), vocab)?)?;
    if let Some(teacher) = teacher {
        expect_len("logits of the teacher", teacher.len(), logits.len())?;
    }
    for &label in labels.iter().filter(|&&label| label != options.ignore_index) {
        if !usize::try_from(label).is_ok_and(|label| label < vocab) {
            let found = usize::try_from(label).unwrap_or(usize::MAX);
            let expected = "less than the vocabulary, or the ignored label";
            return Err(KernelError::Dimension { what: "label", expected, found });
        }
    }
    let mut rows = vec![TokenLossSums::default(); labels.len()];
    let failure = Mutex::new(Ok(()));
    {
        let (rows, logits) = (Shared::new(&mut rows), Disjoint::new(logits));
        parallel::for_each_range(labels.len(), 1, |range| match scratch::take("a token's logits", vocab) {
            Ok(mut copy) => {
                for token in range {
                    // SAFETY: tokens do not overlap.
                    let (row, logits) = unsafe { (rows.at(token), logits.slice(token * vocab..(token + 1) * vocab)) };
                    if labels[token] == options.ignore_index {
                        if gradient.is_some() {
                            logits.fill(0.0);
                        }
                        continue;
                    }
                    let teacher = teacher.map(|teacher| &teacher[token * vocab..(token + 1) * vocab]);
                    let label = labels[token] as usize;
                    let logits = match gradient {
                        Some(_) => logits,
                        None => {
                            copy.copy_from_slice(logits);
                            &mut copy[..]
                        }
                    };
                    *row = simd::run(Token { logits, label, teacher, options, scale: gradient.unwrap_or(0.0) });
                }
            }
            Err(error) => *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Err(error),
        });
    }
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
    let mut total = TokenLossSums::default();
    for row in rows {
        total.hard += row.hard;
        total.z += row.z;
        total.soft += row.soft;
        total.count += row.count;
        total.correct += row.correct;
    }
    Ok(total)
}

struct Token<'a> {
    logits: &'a mut [f32],
    label: usize,
    teacher: Option<&'a [f32]>,
    options: &'a TokenLossOptions,
    scale: f32,
}

impl Op for Token<'_> {
    type Out = TokenLossSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> TokenLossSums {
        let Self { logits, label, teacher, options, scale } = self;
        let vocab = logits.len() as f64;
        let max = largest(logits);
        let own = logits[label];
        let correct = own == max && !logits[..label].contains(&max);
        let smoothing = f64::from(options.label_smoothing);
        let mean = if smoothing == 0.0 { 0.0 } else { sums::<S>(logits, |x| x) / vocab };
        let total = sums::<S>(logits, |x| math::exp::<S>(x - max));
        let lse = f64::from(max) + total.ln();
        let hard = lse - (1.0 - smoothing) * f64::from(own) - smoothing * mean;
        let soft = teacher.map(|teacher| Soft::new::<S>(logits, teacher, options.temperature));

        let hard_scale = f64::from(scale) * f64::from(options.hard_weight);
        let p_scale = hard_scale + 2.0 * f64::from(scale) * f64::from(options.z_loss) * lse;
        let (p_scale, spread) = ((p_scale / total) as f32, (hard_scale * smoothing / vocab) as f32);
        match (&soft, teacher) {
            (Some(soft), Some(teacher)) => {
                let t = f64::from(options.temperature);
                let factor = f64::from(scale) * f64::from(options.soft_weight) * t;
                let (mine, theirs) = ((factor / soft.total) as f32, (factor / soft.teacher_total) as f32);
                let inverse = 1.0 / options.temperature;
                for (x, &teacher) in logits.iter_mut().zip(teacher) {
                    let p = math::exp::<S>((*x - soft.max) * inverse);
                    let q = math::exp::<S>((teacher - soft.teacher_max) * inverse);
                    *x = math::exp::<S>(*x - max) * p_scale - spread + (p * mine - q * theirs);
                }
            }
            _ => {
                for x in logits.iter_mut() {
                    *x = math::exp::<S>(*x - max) * p_scale - spread;
                }
            }
        }
        logits[label] -= (hard_scale * (1.0 - smoothing)) as f32;
        let soft = soft.map_or(0.0, |soft| soft.loss);
        TokenLossSums { hard, z: lse * lse, soft, count: 1, correct: u64::from(correct) }
    }
}

/// The comparison with a teacher, for one token.
struct Soft {
    max: f32,
    total: f64,
    teacher_max: f32,
    teacher_total: f64,
    loss: f64,
}

impl Soft {
    #[inline(always)]
    fn new<S: Simd>(logits: &[f32], teacher: &[f32], temperature: f32) -> Self {
        let (max, teacher_max, inverse) = (largest(logits), largest(teacher), 1.0 / temperature);
        let total = sums::<S>(logits, |x| math::exp::<S>((x - max) * inverse));
        let (mut lanes, mut dots) = ([0f64; 16], [0f64; 16]);
        for (teacher, logits) in teacher.chunks(16).zip(logits.chunks(16)) {
            for (i, (&teacher, &x)) in teacher.iter().zip(logits).enumerate() {
                let q = math::exp::<S>((teacher - teacher_max) * inverse);
                lanes[i] += f64::from(q);
                dots[i] += f64::from(q) * f64::from((x - max) * inverse);
            }
        }
        let teacher_total: f64 = lanes.iter().sum();
        let cross = total.ln() - dots.iter().sum::<f64>() / teacher_total;
        Self { max, total, teacher_max, teacher_total, loss: cross * f64::from(temperature) * f64::from(temperature) }
    }
}

/// The sum of a function of each element: in 16 lanes of float32 over 4096 elements, those in f64.
#[inline(always)]
fn sums<S: Simd>(row: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0f64;
    for part in row.chunks(4096) {
        let mut lanes = [0f32; 16];
        let chunks = part.chunks_exact(16);
        for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = f(x);
        }
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f(x);
            }
        }
        total += f64::from(sum(lanes));
    }
    total
}
