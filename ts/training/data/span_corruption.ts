/**
 * T5's pre-training objective: spans of the text are replaced by sentinels, and the target says what they held (Raffel et
 * al., arXiv 1910.10683, section 3.1.4; the original: `random_spans_noise_mask`, `noise_span_to_unique_sentinel` and
 * `random_spans_helper` of t5's data/preprocessors.py).
 */

import { InputError } from '../../errors.js'
import type { PreTrainedTokenizer } from '../../tokenizer/pre_trained.js'
import type { Feature } from './features.js'
import { choose, random } from './random.js'

export interface SpanCorruptionOptions {
  /** Part of the tokens that are replaced. */
  noise_density: number
  /** Mean tokens of a replaced span. */
  mean_noise_span_length: number
}

type Generator = ReturnType<typeof random>

/**
 * Which tokens are noise: 1 or 0 for each. Spans of noise and of text alternate, text first, noise last. A text of one
 * token has none.
 */
export function random_spans_noise_mask(
  length: number,
  options: SpanCorruptionOptions,
  generator: Generator,
): Uint8Array {
  const mask = new Uint8Array(length)
  if (length < 2) return mask
  const { noise_density, mean_noise_span_length } = options
  const noise_tokens = Math.min(Math.max(round_half_even(length * noise_density), 1), length - 1)
  const text_tokens = length - noise_tokens
  // Every span holds a token of its own, so that there are never more spans than tokens of either kind.
  const spans = Math.min(Math.max(round_half_even(noise_tokens / mean_noise_span_length), 1), noise_tokens, text_tokens)
  const noise = random_segments(noise_tokens, spans, generator)
  const text = random_segments(text_tokens, spans, generator)
  let at = 0
  for (let span = 0; span < spans; span++) {
    at += text[span] as number
    mask.fill(1, at, at + (noise[span] as number))
    at += noise[span] as number
  }
  return mask
}

/** Splits `items` into `count` parts of at least one each, every such split being as probable as any other. */
function random_segments(items: number, count: number, generator: Generator): number[] {
  const begins = choose(count - 1, items - 1, generator)
  const lengths = [1]
  for (const begins_here of begins) {
    if (begins_here) lengths.push(1)
    else lengths[lengths.length - 1] = (lengths.at(-1) as number) + 1
  }
  return lengths
}

/**
 * Tokens of the longest segment whose corrupted form has at most `inputs_length` tokens, sentinels and end token included
 * (`random_spans_helper`).
 */
export function segment_length(inputs_length: number, options: SpanCorruptionOptions): number {
  const corrupted = (length: number) => {
    const noise = round_half_even(length * options.noise_density)
    return length - noise + round_half_even(noise / options.mean_noise_span_length) + 1
  }
  let length = Math.max(2, inputs_length)
  while (corrupted(length + 1) <= inputs_length) length += 1
  return length
}

/** As Python and numpy round: a half goes to the even neighbour. */
function round_half_even(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below
}

/** The corrupted text and what it lacks, both with an end token. */
export function corrupt_spans(
  ids: Int32Array,
  mask: Uint8Array,
  sentinels: readonly number[],
  eos_token_id: number,
): Feature {
  return {
    input_ids: with_sentinels(ids, mask, 1, sentinels, eos_token_id),
    labels: with_sentinels(ids, mask, 0, sentinels, eos_token_id),
  }
}

/** Each run of tokens whose mask is `replaced` becomes one sentinel; the first run the first sentinel. */
function with_sentinels(
  ids: Int32Array,
  mask: Uint8Array,
  replaced: number,
  sentinels: readonly number[],
  eos_token_id: number,
): Int32Array {
  const result: number[] = []
  let runs = 0
  for (const [at, id] of ids.entries()) {
    if (mask[at] !== replaced) {
      result.push(id)
    } else if (at === 0 || mask[at - 1] !== replaced) {
      const sentinel = sentinels[runs++]
      if (sentinel === undefined) {
        throw new InputError(
          `A segment of ${ids.length} tokens has more than ${sentinels.length} spans, and the tokenizer has no more sentinels. Lower max_source_length or raise mean_noise_span_length.`,
          { details: { tokens: ids.length, sentinels: sentinels.length } },
        )
      }
      result.push(sentinel)
    }
  }
  result.push(eos_token_id)
  return Int32Array.from(result)
}

/** The ids of `<extra_id_0>`, `<extra_id_1>`, …, as many as the tokenizer has. */
export function sentinel_ids(tokenizer: PreTrainedTokenizer): number[] {
  const vocab = tokenizer.get_vocab()
  const ids: number[] = []
  for (let number = 0; ; number++) {
    const id = vocab.get(`<extra_id_${number}>`)
    if (id === undefined) break
    ids.push(id)
  }
  if (ids.length === 0) {
    throw new InputError('Span corruption needs a tokenizer with sentinels, <extra_id_0> and so on; this one has none.')
  }
  return ids
}

/** One draw of a segment's corruption: by the seed, the epoch and the segment's number, whatever was drawn before. */
export function corruption_generator(seed: number, epoch: number, segment: number): Generator {
  // A purpose of its own, beside the order of the data.
  return random(seed, epoch, segment, 0x5fac)
}
