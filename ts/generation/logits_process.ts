/** Processors written in JavaScript: they change the scores that a token is chosen from. */

import type { Tensor } from '../tensor.js'
import { Callable } from '../utils/callable.js'
import { show } from '../utils/json.js'
import { checked_hook, hook_failure, run_hook } from './hooks.js'

const NAME = 'logits_processor'

/** Changed scores, or nothing where they were changed in place. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that only writes returns void.
export type ProcessedScores = Tensor<'float32'> | void

/**
 * Gets the ids of each sequence so far, start token included, and their scores [sequences, vocab_size]. Changes the
 * scores in place, or returns others of the same shape.
 */
export type LogitsProcessorFunction = (input_ids: bigint[][], logits: Tensor<'float32'>) => ProcessedScores

/** The base of processors that are classes. */
export abstract class LogitsProcessor extends Callable<
  [input_ids: bigint[][], logits: Tensor<'float32'>],
  ProcessedScores
> {
  abstract override _call(input_ids: bigint[][], logits: Tensor<'float32'>): ProcessedScores
}

/** Several processors, one after the other. */
export class LogitsProcessorList {
  readonly processors: LogitsProcessorFunction[] = []

  get length(): number {
    return this.processors.length
  }

  push(item: LogitsProcessorFunction): void {
    this.processors.push(checked_hook(NAME, item))
  }

  extend(items: Iterable<LogitsProcessorFunction>): void {
    for (const item of items) this.push(item)
  }

  [Symbol.iterator](): Iterator<LogitsProcessorFunction> {
    return this.processors[Symbol.iterator]()
  }
}

/** A list from whatever form processors came in. */
export function to_processors(value: unknown): LogitsProcessorList {
  const list = new LogitsProcessorList()
  if (value === undefined || value === null) return list
  if (value instanceof LogitsProcessorList || Array.isArray(value)) list.extend(value)
  else list.push(value as LogitsProcessorFunction)
  return list
}

/**
 * Runs processors over one step's scores.
 *
 * @throws {OptionError} `INVALID_OPTION` naming `logits_processor` when one throws, returns another shape or writes NaN.
 */
export function run_processors(
  list: LogitsProcessorList,
  input_ids: bigint[][],
  scores: Tensor<'float32'>,
): Tensor<'float32'> {
  const dims = [...scores.dims]
  const { size } = scores
  let current = scores
  for (const [index, processor] of list.processors.entries()) {
    current = (run_hook(NAME, index, () => processor(input_ids, current)) ?? current) as Tensor<'float32'>
    const { data } = current
    // The data too: a tensor's fields can be written, and its buffer handed to somebody else.
    if (String(current.dims) !== String(dims) || !(data instanceof Float32Array) || data.length !== size) {
      throw hook_failure(NAME, index, `gave ${show(current)}; expected a float32 tensor of shape [${dims.join(', ')}]`)
    }
    const at = data.findIndex(Number.isNaN)
    if (at >= 0) {
      const vocab_size = dims[1] as number
      throw hook_failure(
        NAME,
        index,
        `wrote NaN as the score of token ${at % vocab_size} in sequence ${Math.floor(at / vocab_size)}`,
      )
    }
  }
  return current
}
