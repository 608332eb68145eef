/** Compares generated sequences with a case's `generation.json`. */

import { InputError } from '../../errors.js'
import { until_end } from '../../generation/token_rows.js'
import { is_record, show } from '../../utils/json.js'
import { type Check, failed, measured, passed } from './report.js'

/** One entry of `generation.json`. */
export interface ExpectedGeneration {
  options: Record<string, unknown>
  sequences: number[][]
  sequences_scores?: number[]
}

export interface Generated {
  sequences: number[][]
  sequences_scores?: number[]
}

/** Scores of beams are sums over many steps: they may differ by this much, or by the tolerance where that is larger. */
export const SCORE_TOLERANCE = 1e-4

export function parse_generations(json: unknown, file: string): ExpectedGeneration[] {
  if (!Array.isArray(json)) throw new InputError(`${file} must be a list of generations, not ${show(json)}.`)
  return json.map((entry, i) => {
    const { options, sequences, sequences_scores } = is_record(entry) ? entry : {}
    if (!is_record(options) || !is_rows(sequences)) {
      throw new InputError(`Generation ${i} of ${file} needs "options" (an object) and "sequences" (rows of ids).`)
    }
    if (sequences_scores !== undefined && !is_numbers(sequences_scores)) {
      throw new InputError(`"sequences_scores" of generation ${i} of ${file} must be a list of numbers.`)
    }
    return { options, sequences, ...(sequences_scores !== undefined && { sequences_scores }) }
  })
}

/** Whether options ask for nothing but greedy decoding up to a length. */
export function is_plain_greedy(options: Record<string, unknown>): boolean {
  return Object.entries(options).every(
    ([name, value]) =>
      name === 'max_new_tokens' ||
      name === 'max_length' ||
      (name === 'do_sample' && value === false) ||
      (name === 'num_beams' && value === 1),
  )
}

export function has_beams(options: Record<string, unknown>): boolean {
  return typeof options.num_beams === 'number' && options.num_beams > 1
}

export function generation_name(options: Record<string, unknown>): string {
  const text = Object.entries(options).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return text.length === 0 ? '(no options)' : text.join(' ')
}

/**
 * Rows must be equal; those of beams up to their first end token, since the reference fills finished beams with end
 * tokens instead of padding. Scores, where there are any, within `tolerance`.
 *
 * @param eos Ids that end a row.
 */
export function compare_generation(
  expected: ExpectedGeneration,
  actual: Generated,
  eos: readonly number[],
  tolerance: number,
): Check {
  const name = generation_name(expected.options)
  const beams = has_beams(expected.options)
  const trim = (row: readonly number[]) => (beams ? until_end(row, eos) : row)
  if (actual.sequences.length !== expected.sequences.length) {
    return failed('generation', name, `${actual.sequences.length} rows, expected ${expected.sequences.length}`)
  }
  const differing = expected.sequences.flatMap((row, i) =>
    same_row(trim(row), trim(actual.sequences[i] as number[])) ? [] : [i],
  )
  const first = differing[0]
  const detail =
    first === undefined
      ? undefined
      : `${differing.length} of ${expected.sequences.length} rows differ, the first is row ${first}: ` +
        `[${trim(actual.sequences[first] as number[]).join(' ')}], expected [${trim(expected.sequences[first] as number[]).join(' ')}]`
  if (expected.sequences_scores === undefined) {
    return detail === undefined ? passed('generation', name) : failed('generation', name, detail)
  }
  if (actual.sequences_scores?.length !== expected.sequences_scores.length) {
    return failed('generation', name, detail ?? 'it returned no score for each sequence')
  }
  const scores = actual.sequences_scores
  const error = Math.max(0, ...expected.sequences_scores.map((score, i) => distance(scores[i] as number, score)))
  return measured('generation', name, error, Math.max(SCORE_TOLERANCE, tolerance), detail)
}

function distance(a: number, b: number): number {
  const d = Math.abs(a - b)
  return Number.isNaN(d) ? Number.POSITIVE_INFINITY : d
}

function same_row(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i])
}

function is_numbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((x) => typeof x === 'number')
}

function is_rows(value: unknown): value is number[][] {
  return Array.isArray(value) && value.every(is_numbers)
}
