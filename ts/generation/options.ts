/** The options of `generate`: their names, how those of several places are joined, and the form they cross in. */

import { OptionError } from '../errors.js'
import { is_record, show } from '../utils/json.js'

/** The reference's generation options. Null unsets what a checkpoint's own config sets. */
export interface GenerationOptions {
  /** Tokens of the longest output, start token included. Default: 20 more than the start. */
  max_length?: number | null
  /** New tokens of the longest output. Wins over `max_length`. */
  max_new_tokens?: number | null
  /** Tokens before which no end token is chosen, start token included. Default 0. */
  min_length?: number | null
  /** As `min_length`, of new tokens. */
  min_new_tokens?: number | null
  /** When beam search may stop early. Default false. */
  early_stopping?: boolean | 'never' | null
  /** Seconds after which no further step begins. */
  max_time?: number | null
  /** Texts that end a row when they appear in it. Needs `tokenizer`. */
  stop_strings?: string | string[] | null
  /** Draw tokens instead of taking the best. Default false. */
  do_sample?: boolean | null
  /** Beams per row. Default 1: no beam search. */
  num_beams?: number | null
  num_beam_groups?: number | null
  diversity_penalty?: number | null
  penalty_alpha?: number | null
  use_cache?: boolean | null
  temperature?: number | null
  top_k?: number | null
  top_p?: number | null
  min_p?: number | null
  top_h?: number | null
  typical_p?: number | null
  epsilon_cutoff?: number | null
  eta_cutoff?: number | null
  repetition_penalty?: number | null
  encoder_repetition_penalty?: number | null
  length_penalty?: number | null
  no_repeat_ngram_size?: number | null
  encoder_no_repeat_ngram_size?: number | null
  bad_words_ids?: number[][] | null
  /** A list of [token ids, bias]. */
  sequence_bias?: [number[], number][] | null
  renormalize_logits?: boolean | null
  forced_bos_token_id?: number | null
  forced_eos_token_id?: number | number[] | null
  remove_invalid_values?: boolean | null
  /** [new tokens before it begins, factor]. */
  exponential_decay_length_penalty?: [number, number] | null
  suppress_tokens?: number[] | null
  begin_suppress_tokens?: number[] | null
  guidance_scale?: number | null
  /** Results per row. Default 1. */
  num_return_sequences?: number | null
  output_scores?: boolean | null
  output_logits?: boolean | null
  output_attentions?: boolean | null
  output_hidden_states?: boolean | null
  output_router_logits?: boolean | null
  /** Return an object with everything that was asked for, instead of the sequences alone. */
  return_dict_in_generate?: boolean | null
  pad_token_id?: number | null
  bos_token_id?: number | null
  eos_token_id?: number | number[] | null
  decoder_start_token_id?: number | null
  /** Where sampling starts: the same seed gives the same tokens. */
  seed?: number | null
}

const NAMES = [
  'max_length',
  'max_new_tokens',
  'min_length',
  'min_new_tokens',
  'early_stopping',
  'max_time',
  'stop_strings',
  'do_sample',
  'num_beams',
  'num_beam_groups',
  'diversity_penalty',
  'penalty_alpha',
  'use_cache',
  'temperature',
  'top_k',
  'top_p',
  'min_p',
  'top_h',
  'typical_p',
  'epsilon_cutoff',
  'eta_cutoff',
  'repetition_penalty',
  'encoder_repetition_penalty',
  'length_penalty',
  'no_repeat_ngram_size',
  'encoder_no_repeat_ngram_size',
  'bad_words_ids',
  'sequence_bias',
  'renormalize_logits',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'remove_invalid_values',
  'exponential_decay_length_penalty',
  'suppress_tokens',
  'begin_suppress_tokens',
  'guidance_scale',
  'num_return_sequences',
  'output_scores',
  'output_logits',
  'output_attentions',
  'output_hidden_states',
  'output_router_logits',
  'return_dict_in_generate',
  'pad_token_id',
  'bos_token_id',
  'eos_token_id',
  'decoder_start_token_id',
  'seed',
] as const satisfies readonly (keyof GenerationOptions)[]

type Unlisted = Exclude<keyof GenerationOptions, (typeof NAMES)[number]>
const none_unlisted: [Unlisted] extends [never] ? true : Unlisted = true
void none_unlisted

/** Options that have an effect here. The engine refuses all others by name. */
export const OPTION_NAMES: ReadonlySet<string> = new Set(NAMES)

/**
 * Joins options, later ones over earlier ones: a checkpoint's, a `generation_config`, the call's own. Undefined leaves
 * what was there; null unsets it.
 */
export function merge_options(...sources: Readonly<Record<string, unknown>>[]): Record<string, unknown> {
  const merged: Record<string, unknown> = {}
  for (const source of sources) {
    for (const [name, value] of Object.entries(source)) if (value !== undefined) merged[name] = value
  }
  return merged
}

/**
 * The options as JSON values. JSON has no NaN, infinities or undefined and would silently make them null, so they are
 * refused here; the engine checks everything else.
 *
 * @throws {OptionError} naming every option that is no JSON value.
 */
export function to_wire_options(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const wire: Record<string, unknown> = {}
  const faults: { option: string; message: string }[] = []
  for (const [option, value] of Object.entries(options)) {
    try {
      wire[option] = plain(value, 0)
    } catch (error) {
      // The engine says why it has no such option, whatever its value is.
      if (!OPTION_NAMES.has(option)) wire[option] = show(value)
      else
        faults.push({
          option,
          message: `${option} is ${error instanceof Unrepresentable ? error.message : show(value)}`,
        })
    }
  }
  if (faults.length > 0) {
    throw new OptionError('INVALID_OPTION', `${faults.map((fault) => fault.message).join('; ')}.`, {
      details: { option: faults[0]?.option, faults },
    })
  }
  return wire
}

class Unrepresentable extends Error {}

/** Deeper than any option goes. */
const MAX_DEPTH = 6

function plain(value: unknown, depth: number): unknown {
  if (depth > MAX_DEPTH) throw new Unrepresentable('nested too deep')
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value
    throw new Unrepresentable(`${value}, which is not a finite number`)
  }
  if (typeof value === 'bigint') return Number(value)
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return Array.from(value as unknown as ArrayLike<number | bigint>, (item) => plain(item, depth + 1))
  }
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1))
  if (value instanceof Map || value instanceof Set) return Array.from(value, (item) => plain(item, depth + 1))
  if (is_record(value) && 'data' in value && 'dims' in value) return plain(value.data, depth + 1)
  if (is_record(value))
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]))
  throw new Unrepresentable(`${show(value)}, which is not a value an option can have`)
}
