/** The arrays of expected values in JSON files: nested lists, checked and flattened. */

import { InputError } from '../../errors.js'
import { show } from '../../utils/json.js'
import type { Values } from '../compare.js'

/**
 * Nested lists of numbers as one array with its shape. `null` stands for minus infinity, which JSON cannot express.
 *
 * @param what Names the value in the error.
 * @throws {InputError} for anything but a rectangle of numbers with `rank` dimensions.
 */
export function flatten(value: unknown, rank: number, what: string): Values & { data: number[] } {
  const dims: number[] = []
  const data: number[] = []
  const visit = (item: unknown, depth: number): void => {
    if (depth === rank) {
      if (item === null) data.push(Number.NEGATIVE_INFINITY)
      else if (typeof item === 'number') data.push(item)
      else throw new InputError(`${what} must hold numbers, not ${show(item)}.`)
      return
    }
    if (!Array.isArray(item)) throw new InputError(`${what} must be lists nested ${rank} deep; found ${show(item)}.`)
    dims[depth] ??= item.length
    if (dims[depth] !== item.length) {
      throw new InputError(`${what} is ragged: lists of ${dims[depth]} and of ${item.length} at the same depth.`)
    }
    for (const inner of item) visit(inner, depth + 1)
  }
  visit(value, 0)
  return { dims, data }
}

/** The entry of a JSON object that must be a list. */
export function list_of(json: Record<string, unknown>, field: string, file: string): unknown[] {
  const value = json[field]
  if (!Array.isArray(value)) throw new InputError(`"${field}" of ${file} must be a list, not ${show(value)}.`)
  return value
}
