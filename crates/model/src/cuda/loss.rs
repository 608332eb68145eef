//! The loss over the vocabulary where the hidden states are, some tokens at a time.

use candle_core::Tensor;
use switch_kernels::cuda::{self, Launches, TokenLoss};
use switch_kernels::training::{TokenLossOptions, TokenLossSums};
use switch_kernels::{Activation, KernelError};

use super::errors::of_driver;
use super::gradients::{add_outer, back_to_input, Outer};
use super::run::{address_of, device_of, run, Buffer};
use super::weights::multiply;
use crate::error::{ModelError, Result};
use crate::weight::Weight;

/// Logits computed at a time, at most this many values.
const CHUNK_VALUES: usize = 32 << 20;

/// A head over hidden states `[tokens, width]`, which are scaled first.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub weight: &'a Weight,
    pub scale: f32,
    pub hidden: &'a Tensor,
}

/// The losses of the tokens `counted`, by `labels` of all; with `per_target` also their gradients times this number: the
/// head's is added where it learns, that of the hidden states is returned (empty otherwise).
pub fn token_losses(
    head: Head<'_>,
    teacher: Option<Head<'_>>,
    labels: &[i64],
    counted: &[usize],
    options: &TokenLossOptions,
    per_target: Option<f32>,
) -> Result<(TokenLossSums, Vec<f32>)> {
    let device = device_of(head.hidden)?;
    let read = |e| of_driver(&e, "reading losses");
    let (tokens, width) = head.hidden.dims2()?;
    let vocab = head.weight.shape().first().copied().unwrap_or(0).max(1);
    let chunk = (CHUNK_VALUES / vocab).clamp(1, counted.len().max(1));
    let gradient = match per_target {
        Some(_) => Some(Buffer(device.alloc_zeros::<f32>((tokens * width).max(1))?)),
        None => None,
    };
    let made = |len: usize| Buffer::<f32>::new(&device, len);
    let (logits, x, dx) = (made(chunk * vocab)?, made(chunk * width)?, made(chunk * width)?);
    let taught = match &teacher {
        Some(teacher) => Some((made(chunk * vocab)?, made(chunk * teacher.hidden.dim(1)?)?)),
        None => None,
    };
    let mut sums = TokenLossSums::default();
    for places in counted.chunks(chunk) {
        let n = places.len();
        let ids: Vec<u32> = places.iter().map(|token| u32::try_from(*token).unwrap_or(u32::MAX)).collect();
        if ids.iter().any(|id| *id as usize >= tokens) {
            return Err(ModelError::internal("a label without hidden states"));
        }
        let words = |token: &usize| labels.get(*token).and_then(|label| i32::try_from(*label).ok());
        let wanted: Vec<i32> = places.iter().filter_map(words).collect();
        if wanted.len() != n || wanted.iter().any(|label| !usize::try_from(*label).is_ok_and(|label| label < vocab)) {
            let expected = "less than the vocabulary, or the ignored label";
            return Err(KernelError::Dimension { what: "label", expected, found: vocab }.into());
        }
        let (ids, wanted) = (Buffer::from_host(&device, &ids)?, Buffer::from_host(&device, &wanted)?);
        let (losses, correct) = (Buffer::<f64>::new(&device, n * 3)?, Buffer::<i32>::new(&device, n)?);
        let mut launches = Launches::new();
        let project = |launches: &mut Launches, of: &Head<'_>, x: &Buffer<f32>, to: &Buffer<f32>| -> Result<()> {
            let (from, width) = (address_of(of.hidden)?, of.hidden.dim(1)?);
            let float32 = cuda::WeightType::F32;
            cuda::embedding(launches, from, float32, ids.address(), n, width, x.address())?;
            cuda::scale(launches, x.address(), of.scale, n * width, x.address())?;
            multiply(launches, &device, x.address(), n, of.weight, Activation::Identity, false, to.address())
        };
        project(&mut launches, &head, &x, &logits)?;
        let mut teacher_logits = 0;
        if let (Some(teacher), Some((to, x))) = (&teacher, &taught) {
            project(&mut launches, teacher, x, to)?;
            teacher_logits = to.address();
        }
        let p = TokenLoss {
            logits: logits.address(),
            teacher: teacher_logits,
            labels: wanted.address(),
            losses: losses.address(),
            correct: correct.address(),
        };
        cuda::token_loss(&mut launches, &p, n, vocab, options, per_target)?;
        run(&device, &std::mem::take(&mut launches))?;
        let stream = device.cuda_stream();
        let found = stream.clone_dtoh(&losses.0).map_err(read)?;
        let mut part = TokenLossSums::default();
        for loss in found.chunks_exact(3).take(n) {
            if let &[hard, z, soft] = loss {
                (part.hard, part.z, part.soft) = (part.hard + hard, part.z + z, part.soft + soft);
            }
        }
        let right = stream.clone_dtoh(&correct.0).map_err(read)?;
        part.correct = right.iter().take(n).filter(|right| **right != 0).count() as u64;
        let finite = part.hard.is_finite() && part.z.is_finite() && part.soft.is_finite();
        sums.hard += part.hard;
        sums.z += part.z;
        sums.soft += part.soft;
        sums.count += n as u64;
        sums.correct += part.correct;
        let Some(gradient) = gradient.as_ref().filter(|_| finite) else { continue };
        let outer = Outer { dy: (&logits, vocab), x: (&x, width), n };
        add_outer(&mut launches, &device, head.weight.trainable(), head.weight.precision(), outer)?;
        back_to_input(&mut launches, &device, head.weight, logits.address(), n, dx.address(), false)?;
        cuda::scale(&mut launches, dx.address(), head.scale, n * width, dx.address())?;
        cuda::scatter_rows(&mut launches, dx.address(), ids.address(), n, width, gradient.address())?;
        run(&device, &launches)?;
    }
    let gradient = match gradient {
        Some(gradient) => {
            let mut values = device.cuda_stream().clone_dtoh(&gradient.0).map_err(read)?;
            values.truncate(tokens * width);
            values
        }
        None => Vec::new(),
    };
    Ok((sums, gradient))
}
