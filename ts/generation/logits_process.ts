/** Processors written in JavaScript: they change the scores that a token is chosen from. */

import { OptionError } from '../errors.js'
import type { Tensor } from '../tensor.js'
import { Callable } from '../utils/callable.js'
import { show } from '../utils/json.js'

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
    if (typeof item !== 'function') {
      throw new OptionError(
        'INVALID_OPTION',
        `logits_processor must be a function or a LogitsProcessor, not ${show(item)}.`,
        {
          details: { option: 'logits_processor' },
        },
      )
    }
    this.processors.push(item)
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
  let current = scores
  for (const [index, processor] of list.processors.entries()) {
    let result: unknown
    try {
      result = processor(input_ids, current)
    } catch (cause) {
      throw failed(index, `threw: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
    }
    if (result !== undefined && result !== null) {
      const { type, dims } = result as Partial<Tensor>
      if (type !== 'float32' || String(dims) !== String(scores.dims)) {
        throw failed(
          index,
          `returned ${show(result)}; expected nothing, or a float32 tensor of shape [${scores.dims.join(', ')}]`,
        )
      }
      current = result as Tensor<'float32'>
    }
    const data = current.data
    const at = data.findIndex(Number.isNaN)
    if (at >= 0) {
      const vocab_size = scores.dims[1] as number
      throw failed(
        index,
        `wrote NaN as the score of token ${at % vocab_size} in sequence ${Math.floor(at / vocab_size)}`,
      )
    }
  }
  return current
}

function failed(index: number, what: string, cause?: unknown): OptionError {
  return new OptionError('INVALID_OPTION', `logits_processor ${index} ${what}.`, {
    details: { option: 'logits_processor', index },
    ...(cause !== undefined && { cause }),
  })
}
