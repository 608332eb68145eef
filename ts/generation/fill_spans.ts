/** Filling the gaps of a text, which is what the released checkpoints were trained to do. */

import { InputError } from '../errors.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/index.js'
import type { PreTrainedTokenizer } from '../tokenizer/index.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'
import type { GenerationOptions } from './options.js'
import { end_token_ids, until_end } from './token_rows.js'

export interface FillSpansOptions extends GenerationOptions {
  /**
   * What marks a gap. Default: three or more underscores, `<mask>`, or a sentinel such as `<extra_id_0>` that is there
   * already. Gaps are numbered from the left, whatever number a sentinel had.
   */
  gap?: string | RegExp
  signal?: AbortSignal | null
}

export interface FilledSpans {
  /** The text with its gaps filled. */
  text: string
  /** What stands in each gap. Empty where the model said nothing for it. */
  spans: string[]
  /** ln p of what was generated, up to its end. */
  score: number
}

const DEFAULT_GAP = /_{3,}|<mask>|<extra_id_\d+>/g
/** Sentinels of T5's vocabulary; a text with more gaps cannot be numbered. */
const MAX_GAPS = 100
const DEFAULTS = { num_beams: 4, max_new_tokens: 64 }

/**
 * Fills the gaps of a text: numbers them, generates, and puts what was generated for each gap in its place. Candidates
 * come best first; `num_return_sequences` says how many (default 1).
 *
 * @throws {InputError} for a text without gaps or with more than 100, and for tokenizers without sentinels.
 */
export async function fill_spans(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  text: string,
  options: FillSpansOptions = {},
): Promise<FilledSpans[]> {
  const { gap, signal, ...generation } = options
  const parts = split(text, gap)
  const sentinels = parts.slice(1).map((_, index) => sentinel_id(tokenizer, index))
  const numbered = parts.map((part, index) => (index === 0 ? part : `<extra_id_${index - 1}>${part}`)).join('')
  const { input_ids, attention_mask } = tokenizer(numbered)
  const beams = Math.max(DEFAULTS.num_beams, generation.num_return_sequences ?? 1)
  const sequences = await model.generate({
    input_ids,
    attention_mask,
    ...DEFAULTS,
    num_beams: beams,
    ...generation,
    return_dict_in_generate: false,
    ...(signal && { signal }),
  })
  const rows = (sequences.tolist() as bigint[][]).map((row) => row.map(Number))
  const ends = end_token_ids(generation.eos_token_id, model.generation_config.eos_token_id, model.config.eos_token_id)
  const targets = rows.map((row) => until_end(row, ends).slice(1))
  const scores = await score(model, input_ids.tolist()[0] as bigint[], targets)
  const candidates = targets.map((target, index) => {
    const spans = spans_of(target, sentinels, tokenizer)
    const filled = parts
      .map((part, i) => (i === 0 ? part : fill(spans[i - 1] as string, part, parts[i - 1] as string)))
      .join('')
    return { text: filled, spans, score: scores[index] as number }
  })
  return candidates.sort((a, b) => b.score - a.score)
}

function split(text: unknown, gap: unknown): string[] {
  if (typeof text !== 'string') throw new InputError(`fill_spans takes a text, not ${show(text)}.`)
  let marker: string | RegExp = DEFAULT_GAP
  if (gap !== undefined) {
    if (!(typeof gap === 'string' && gap !== '') && !(gap instanceof RegExp)) {
      throw invalid_option('gap', `gap must be a text or a regular expression, not ${show(gap)}.`)
    }
    marker = gap instanceof RegExp ? new RegExp(gap.source, gap.flags.includes('g') ? gap.flags : `${gap.flags}g`) : gap
  }
  const parts = typeof marker === 'string' ? text.split(marker) : between_matches(text, marker)
  if (parts.length === 1) throw new InputError('The text has no gap. Mark one with ___, <mask> or <extra_id_0>.')
  if (parts.length - 1 > MAX_GAPS)
    throw new InputError(`The text has ${parts.length - 1} gaps; at most ${MAX_GAPS} can be numbered.`)
  return parts
}

/** As `split`, without what groups of the expression match. */
function between_matches(text: string, expression: RegExp): string[] {
  const parts: string[] = []
  let start = 0
  for (const match of text.matchAll(expression)) {
    parts.push(text.slice(start, match.index))
    start = match.index + match[0].length
  }
  return [...parts, text.slice(start)]
}

function sentinel_id(tokenizer: PreTrainedTokenizer, index: number): number {
  const token = `<extra_id_${index}>`
  const id = tokenizer.convert_tokens_to_ids(token)
  if (id !== null && id !== tokenizer.unk_token_id) return id
  throw new InputError(`The tokenizer has no ${token}: this checkpoint was not trained to fill gaps.`)
}

/** What was generated between each gap's sentinel and the next sentinel, whichever that is. */
function spans_of(target: readonly number[], sentinels: readonly number[], tokenizer: PreTrainedTokenizer): string[] {
  const all = new Set(Array.from({ length: MAX_GAPS }, (_, i) => tokenizer.convert_tokens_to_ids(`<extra_id_${i}>`)))
  return sentinels.map((sentinel) => {
    const from = target.indexOf(sentinel)
    if (from < 0) return ''
    const rest = target.slice(from + 1)
    const to = rest.findIndex((id) => all.has(id))
    return tokenizer.decode(to < 0 ? rest : rest.slice(0, to), { skip_special_tokens: true }).trim()
  })
}

/** A span as it stands between two parts: nothing leaves no double space behind. */
function fill(span: string, after: string, before: string): string {
  return span === '' && before.endsWith(' ') && after.startsWith(' ') ? after.slice(1) : span + after
}

async function score(
  model: SwitchTransformersForConditionalGeneration,
  input_ids: readonly bigint[],
  targets: readonly number[][],
): Promise<number[]> {
  const longest = Math.max(...targets.map((target) => target.length))
  const labels = targets.map((target) => [...target, ...new Array<number>(longest - target.length).fill(-100)])
  const { log_probs } = await model.score({ input_ids: targets.map(() => input_ids.map(Number)), labels })
  return Array.from(log_probs.data)
}
