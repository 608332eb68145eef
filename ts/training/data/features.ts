/** Token ids of examples: made in short turns, and kept as compactly as ids can be. */

import { InputError, throw_if_aborted } from '../../errors.js'
import type { PreTrainedTokenizer } from '../../tokenizer/pre_trained.js'
import { show } from '../../utils/json.js'
import type { Example } from './examples.js'
import { turns } from './turns.js'

/** Ids of one example, its end token included. */
export interface Feature {
  input_ids: Int32Array
  labels: Int32Array
}

export interface EncodingLimits {
  max_source_length: number
  max_target_length: number
}

/** Turns examples into ids. */
export class ExampleEncoder {
  /** Examples of which something was cut off. */
  truncated = 0
  readonly #tokenizer: PreTrainedTokenizer
  readonly #limits: EncodingLimits

  constructor(tokenizer: PreTrainedTokenizer, limits: EncodingLimits) {
    this.#tokenizer = tokenizer
    this.#limits = limits
  }

  encode({ source, target }: Example): Feature {
    const before = this.truncated
    const input_ids = this.#ids(source, this.#limits.max_source_length)
    const labels = this.#ids(target, this.#limits.max_target_length)
    if (this.truncated > before) this.truncated = before + 1
    return { input_ids, labels }
  }

  #ids(text: string, max_length: number): Int32Array {
    const ids = this.#tokenizer.encode(text)
    if (ids.length <= max_length) return Int32Array.from(ids)
    this.truncated += 1
    return Int32Array.from(this.#tokenizer.encode(text, { truncation: true, max_length }))
  }
}

/** The length that rows are cut to where the options do not say. */
export function length_limit(chosen: number | null, tokenizer: PreTrainedTokenizer): number {
  return chosen ?? Math.min(512, tokenizer.model_max_length)
}

/** Many features in two arrays that grow. */
export class FeatureTable {
  #ids: Int32Array = new Int32Array(1024)
  /** Where each feature's source begins and its target begins; one more at the end. */
  #starts: Float64Array = new Float64Array(256)
  #used = 0
  length = 0

  push({ input_ids, labels }: Feature): void {
    const needed = this.#used + input_ids.length + labels.length
    if (needed > this.#ids.length) this.#ids = grown(this.#ids, needed)
    if (2 * this.length + 3 > this.#starts.length) {
      const starts = new Float64Array(2 * this.#starts.length)
      starts.set(this.#starts)
      this.#starts = starts
    }
    this.#ids.set(input_ids, this.#used)
    this.#ids.set(labels, this.#used + input_ids.length)
    this.#starts[2 * this.length] = this.#used
    this.#starts[2 * this.length + 1] = this.#used + input_ids.length
    this.#starts[2 * this.length + 2] = needed
    this.#used = needed
    this.length += 1
  }

  at(index: number): Feature {
    const [source, target, end] = this.#place(index)
    return { input_ids: this.#ids.subarray(source, target), labels: this.#ids.subarray(target, end) }
  }

  source_length(index: number): number {
    const [source, target] = this.#place(index)
    return target - source
  }

  target_length(index: number): number {
    const [, target, end] = this.#place(index)
    return end - target
  }

  #place(index: number): [number, number, number] {
    const at = 2 * index
    return [this.#starts[at] as number, this.#starts[at + 1] as number, this.#starts[at + 2] as number]
  }
}

function grown(array: Int32Array, needed: number): Int32Array {
  const larger = new Int32Array(Math.max(needed, 2 * array.length))
  larger.set(array)
  return larger
}

/** Encodes all examples. `signal` is looked at between them. */
export async function encode_all(
  examples: AsyncIterable<Example> | Iterable<Example>,
  encoder: ExampleEncoder,
  { signal, keep }: { signal?: AbortSignal | undefined; keep?: ((example: Example) => void) | undefined } = {},
): Promise<FeatureTable> {
  const table = new FeatureTable()
  const turn = turns()
  for await (const example of examples) {
    throw_if_aborted(signal)
    table.push(encoder.encode(example))
    keep?.(example)
    await turn()
  }
  if (table.length === 0) throw new InputError('The data set holds no examples.', { details: { examples: 0 } })
  return table
}

/** What a tokenizer must have in common with the model that learns its ids. */
export interface TokenizedModel {
  vocab_size: number
  pad_token_id?: number | null
  eos_token_id?: number | number[] | null
}

/** @throws {InputError} for a tokenizer whose ids the model cannot take, or would take for something else. */
export function check_tokenizer(tokenizer: PreTrainedTokenizer, model: TokenizedModel): void {
  const fail = (message: string, details: object) => {
    throw new InputError(`The tokenizer does not fit the model: ${message}.`, { details })
  }
  const tokens = Math.max(-1, ...tokenizer.get_vocab().values()) + 1
  if (tokens > model.vocab_size) {
    fail(`its ids go up to ${tokens - 1}, and the model's vocab_size is ${model.vocab_size}`, {
      tokens,
      vocab_size: model.vocab_size,
    })
  }
  const pad = tokenizer.pad_token_id
  if (pad !== null && typeof model.pad_token_id === 'number' && pad !== model.pad_token_id) {
    fail(`its padding token is ${pad}, the model's ${model.pad_token_id}`, { pad, expected: model.pad_token_id })
  }
  const ends = [model.eos_token_id ?? []].flat()
  const last = tokenizer.encode('a').at(-1)
  if (ends.length > 0 && (last === undefined || !ends.includes(last))) {
    fail(
      `what it encodes ends with ${show(last)}, not with the model's end token ${show(model.eos_token_id)}, so that the model would never learn to stop`,
      { last, expected: model.eos_token_id },
    )
  }
}
