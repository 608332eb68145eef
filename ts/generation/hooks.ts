/** Functions of the caller's that a generation calls: whatever they do wrong is said with their name. */

import { OptionError } from '../errors.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'

/** A list of functions from whatever form they came in. Throws an `OptionError` for anything that is none. */
export function checked_hook<F>(name: string, item: F): F {
  if (typeof item === 'function') return item
  throw invalid_option(name, `${name} must be a function or a list of functions, not ${show(item)}.`)
}

export function hook_failure(name: string, index: number, what: string, cause?: unknown): OptionError {
  return new OptionError('INVALID_OPTION', `${name} ${index} ${what}.`, {
    details: { option: name, index },
    ...(cause !== undefined && { cause }),
  })
}

/** What a hook returns. Throws {@link hook_failure} when it throws, or is asynchronous: a step does not wait. */
export function run_hook(name: string, index: number, run: () => unknown): unknown {
  let result: unknown
  try {
    result = run()
  } catch (cause) {
    throw hook_failure(name, index, `threw: ${cause instanceof Error ? cause.message : show(cause)}`, cause)
  }
  if (result instanceof Promise) {
    // Nobody will look at it: left alone, its rejection would end the process.
    result.catch(() => {})
    throw hook_failure(name, index, 'returned a promise, and no step waits')
  }
  return result
}
