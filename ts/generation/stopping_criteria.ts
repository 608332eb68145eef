/** Reasons to end a row that are decided in JavaScript. */

import { Callable } from '../utils/callable.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'
import { checked_hook, hook_failure, run_hook } from './hooks.js'
import type { StreamerTokenizer } from './incremental_decoder.js'

const NAME = 'stopping_criteria'

/** Gets the ids of each sequence so far, start token included; says which of them end. */
export type StoppingCriteriaFunction = (input_ids: number[][], scores?: number[][]) => boolean[] | boolean

/** The base of criteria that are classes. */
export abstract class StoppingCriteria extends Callable<
  [input_ids: number[][], scores?: number[][]],
  boolean[] | boolean
> {
  abstract override _call(input_ids: number[][], scores?: number[][]): boolean[] | boolean
}

/** Several criteria; a sequence ends when any of them says so. */
export class StoppingCriteriaList {
  readonly criteria: StoppingCriteriaFunction[] = []

  get length(): number {
    return this.criteria.length
  }

  push(item: StoppingCriteriaFunction): void {
    this.criteria.push(checked_hook(NAME, item))
  }

  extend(items: Iterable<StoppingCriteriaFunction>): void {
    for (const item of items) this.push(item)
  }

  [Symbol.iterator](): Iterator<StoppingCriteriaFunction> {
    return this.criteria[Symbol.iterator]()
  }
}

/** Ends sequences from outside: `interrupt()` ends all of them at the next step, with what they have. */
export class InterruptableStoppingCriteria extends StoppingCriteria {
  interrupted = false

  interrupt(): void {
    this.interrupted = true
  }

  reset(): void {
    this.interrupted = false
  }

  override _call(input_ids: number[][]): boolean[] {
    return input_ids.map(() => this.interrupted)
  }
}

/** Ends a sequence as soon as one of some strings appears in its text. */
export class StopStringCriteria extends StoppingCriteria {
  readonly #tokenizer: StreamerTokenizer
  readonly #strings: readonly string[]
  readonly #longest: number

  constructor(tokenizer: StreamerTokenizer, stop_strings: string | readonly string[]) {
    super()
    const strings = typeof stop_strings === 'string' ? [stop_strings] : stop_strings
    if (
      !Array.isArray(strings) ||
      strings.length === 0 ||
      !strings.every((text) => typeof text === 'string' && text !== '')
    ) {
      throw invalid_option(
        'stop_strings',
        `stop_strings must be a text or a list of at least one, not ${show(stop_strings)}.`,
      )
    }
    this.#tokenizer = tokenizer
    this.#strings = strings
    this.#longest = Math.max(...strings.map((text) => text.length))
  }

  override _call(input_ids: number[][]): boolean[] {
    return input_ids.map((ids) => {
      // A token is at least part of a character, mostly more; a string that ends in the last one began not long before.
      const tail = ids.slice(-4 * (this.#longest + 4))
      const text = this.#decode(tail)
      const before = this.#decode(tail.slice(0, -1))
      // Only what the last token completes counts, as in the reference: a prefix may hold the string without harm.
      const known = before.endsWith('\ufffd') ? before.length - 1 : before.length
      return this.#strings.some((stop) => text.indexOf(stop, Math.max(0, known - stop.length + 1)) >= 0)
    })
  }

  #decode(ids: number[]): string {
    return ids.length === 0 ? '' : this.#tokenizer.decode(ids, { skip_special_tokens: true })
  }
}

/** A list from whatever form criteria came in. */
export function to_criteria(value: unknown): StoppingCriteriaList {
  const list = new StoppingCriteriaList()
  if (value === undefined || value === null) return list
  if (value instanceof StoppingCriteriaList || Array.isArray(value)) list.extend(value)
  else list.push(value as StoppingCriteriaFunction)
  return list
}

/**
 * Which of these sequences end.
 *
 * @throws {OptionError} `INVALID_OPTION` naming `stopping_criteria` when one throws or answers something else.
 */
export function run_criteria(list: StoppingCriteriaList, input_ids: number[][]): boolean[] {
  const stop = input_ids.map(() => false)
  for (const [index, criterion] of list.criteria.entries()) {
    const answer = run_hook(NAME, index, () => criterion(input_ids))
    const answers = typeof answer === 'boolean' ? stop.map(() => answer) : answer
    if (
      !Array.isArray(answers) ||
      answers.length !== stop.length ||
      !answers.every((one) => typeof one === 'boolean')
    ) {
      throw hook_failure(
        NAME,
        index,
        `returned ${show(answer)}; expected true, false, or one of them for each of ${stop.length} sequences`,
      )
    }
    for (const [row, one] of answers.entries()) if (one) stop[row] = true
  }
  return stop
}
