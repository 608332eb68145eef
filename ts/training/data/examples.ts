/** Examples: what rows of any form become, and what is said of those that cannot. */

import { InputError } from '../../errors.js'
import { has_own, is_record, show } from '../../utils/json.js'

/** A pair to learn from. */
export interface Example {
  source: string
  /** What is learned. */
  target: string
  /** Everything that counts as right in an evaluation; `target` alone where there is no more. */
  references: string[]
}

export interface ColumnOptions {
  /** Column of the source; a dot goes into an object: `translation.en`. Default: the first of the usual names that is there. */
  source_column?: string | null
  /** Column of the target: a text, or a list of texts of which the first is learned and all count as right. */
  target_column?: string | null
  /** Put before each source. */
  source_prefix?: string
  /** Texts alone: no target is looked for. */
  texts_only?: boolean
}

export const SOURCE_COLUMNS = [
  'source',
  'input',
  'text',
  'input_text',
  'document',
  'article',
  'dialogue',
  'question',
] as const
export const TARGET_COLUMNS = [
  'target',
  'output',
  'label',
  'labels',
  'target_text',
  'summary',
  'highlights',
  'answer',
] as const

/** Why a row is none, in a few words. */
export class BadRow extends Error {
  override readonly name = 'BadRow'
}

/** @throws {BadRow} */
export function to_example(row: unknown, options: ColumnOptions): Example {
  const prefix = options.source_prefix ?? ''
  if (typeof row === 'string') {
    if (!options.texts_only) throw new BadRow('it is a text, not an object with a source and a target')
    return { source: prefix + not_empty(row, 'the text'), target: '', references: [] }
  }
  if (Array.isArray(row) && row.length === 2 && !options.texts_only) return pair(prefix, row[0], row[1], ['0', '1'])
  if (!is_record(row)) throw new BadRow(`it is ${show(row)}, not an object`)
  if (is_example(row)) return { ...row, source: prefix + row.source }
  const [source_name, source] = column(row, options.source_column, SOURCE_COLUMNS, 'source')
  if (options.texts_only) return { source: prefix + as_text(source, source_name), target: '', references: [] }
  const [target_name, target] = column(row, options.target_column, TARGET_COLUMNS, 'target')
  return pair(prefix, source, target, [source_name, target_name])
}

/** Whether it is what a reader gave: a source, a target and their references. */
function is_example(row: Record<string, unknown>): row is Record<string, unknown> & Example {
  const { source, target, references } = row
  return (
    typeof source === 'string' &&
    typeof target === 'string' &&
    Array.isArray(references) &&
    references.every((reference) => typeof reference === 'string')
  )
}

function pair(prefix: string, source: unknown, target: unknown, names: [string, string]): Example {
  if (Array.isArray(target)) {
    if (target.length === 0) throw new BadRow(`"${names[1]}" is an empty list`)
    const references = target.map((each) => as_text(each, names[1]))
    return { source: prefix + as_text(source, names[0]), target: references[0] as string, references }
  }
  const text = as_text(target, names[1])
  return { source: prefix + as_text(source, names[0]), target: text, references: [text] }
}

function column(
  row: Record<string, unknown>,
  chosen: string | null | undefined,
  usual: readonly string[],
  role: string,
): [name: string, value: unknown] {
  if (chosen !== undefined && chosen !== null) {
    const value = has_own(row, chosen) ? row[chosen] : inside(row, chosen)
    if (value === undefined) throw new BadRow(`it has no column "${chosen}", only ${names_of(row)}`)
    return [chosen, value]
  }
  const found = usual.find((name) => has_own(row, name))
  if (found === undefined) {
    throw new BadRow(
      `no column is known as a ${role} (${usual.join(', ')}); it has ${names_of(row)}. Name it by ${role}_column`,
    )
  }
  return [found, row[found]]
}

function inside(row: Record<string, unknown>, path: string): unknown {
  let value: unknown = row
  for (const part of path.split('.')) value = is_record(value) && has_own(value, part) ? value[part] : undefined
  return value
}

function names_of(row: Record<string, unknown>): string {
  return show(Object.keys(row))
}

function as_text(value: unknown, name: string): string {
  if (typeof value === 'number' && Number.isFinite(value)) return String(value)
  if (typeof value !== 'string') throw new BadRow(`"${name}" is ${show(value)}, not a text`)
  return not_empty(value, `"${name}"`)
}

function not_empty(text: string, name: string): string {
  if (text.trim() === '') throw new BadRow(`${name} is empty`)
  return text
}

/** What was left out. */
export interface SkippedRows {
  count: number
  /** The first of them. `line` counts from 1; of arrays and iterables it is the number of the row. */
  rows: { line: number; reason: string }[]
}

const KEPT_ROWS = 20

/** Either throws at the first bad row or counts them. */
export class RowPolicy {
  readonly skipped: SkippedRows = { count: 0, rows: [] }
  readonly #skip: boolean
  readonly #name: string
  readonly #unit: string

  constructor(on_bad_row: 'error' | 'skip', name: string, unit: 'line' | 'row' = 'line') {
    this.#skip = on_bad_row === 'skip'
    this.#name = name
    this.#unit = unit
  }

  bad(line: number, reason: string): void {
    if (!this.#skip) {
      throw new InputError(
        `${this.#name}, ${this.#unit} ${line}: ${reason}. Correct it, or leave such rows out with on_bad_row: 'skip'.`,
        { details: { name: this.#name, line, reason } },
      )
    }
    this.skipped.count += 1
    if (this.skipped.rows.length < KEPT_ROWS) this.skipped.rows.push({ line, reason })
  }

  /** The row's example, or undefined where it is bad and left out. */
  example(row: unknown, line: number, columns: ColumnOptions): Example | undefined {
    try {
      return to_example(row, columns)
    } catch (error) {
      if (!(error instanceof BadRow)) throw error
      this.bad(line, error.message)
      return undefined
    }
  }
}
