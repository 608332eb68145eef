/** Data sets as users give them, as examples, and as batches by epoch. */

import { InputError } from '../../errors.js'
import { show } from '../../utils/json.js'
import type { CompleteArguments } from '../arguments.js'
import { type ColumnOptions, type Example, RowPolicy, type SkippedRows } from './examples.js'

/** A pair, an object with the columns of one, or a text (for span corruption). */
export type ExampleRow =
  | Readonly<Record<string, unknown>>
  | readonly [source: string, target: string | string[]]
  | string

/**
 * Rows: an array, an iterable (what `read_examples` gives is one), or a function that makes one, for data that are to be
 * read once per epoch.
 */
export type DatasetInput =
  | Iterable<ExampleRow>
  | AsyncIterable<ExampleRow>
  | AsyncIterable<Example>
  | (() => Iterable<ExampleRow> | AsyncIterable<ExampleRow> | AsyncIterable<Example>)

/** The examples of a data set, with what is wrong with its rows. */
export class Examples implements AsyncIterable<Example> {
  readonly #input: DatasetInput
  readonly #columns: ColumnOptions
  readonly #on_bad_row: 'error' | 'skip'
  readonly #name: string
  skipped: SkippedRows = { count: 0, rows: [] }

  /** @throws {InputError} for what is no data set. */
  constructor(name: string, input: DatasetInput, args: CompleteArguments) {
    const iterable =
      typeof input === 'function' ||
      (typeof input === 'object' && input !== null && (Symbol.iterator in input || Symbol.asyncIterator in input))
    if (!iterable) {
      throw new InputError(
        `${name} must be an array of { source, target }, an iterable of them or a function that gives one; found ${show(input)}. Read a file with read_examples.`,
      )
    }
    this.#name = name
    this.#input = input
    this.#on_bad_row = args.on_bad_row
    this.#columns = {
      source_column: args.source_column,
      target_column: args.target_column,
      source_prefix: args.source_prefix,
      texts_only: args.objective === 'span_corruption',
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Example, void, undefined> {
    const policy = new RowPolicy(this.#on_bad_row, this.#name, 'row')
    const rows = typeof this.#input === 'function' ? this.#input() : this.#input
    // What a reader has left out of its table counts too.
    const reader = rows as { skipped?: SkippedRows }
    let number = 0
    let found = false
    for await (const row of rows) {
      number += 1
      const example = policy.example(row, number, this.#columns)
      if (example === undefined) continue
      found = true
      yield example
    }
    const read = reader.skipped?.rows !== undefined ? reader.skipped : { count: 0, rows: [] }
    this.skipped = {
      count: policy.skipped.count + read.count,
      rows: [...read.rows, ...policy.skipped.rows],
    }
    if (!found) {
      throw new InputError(
        number === 0
          ? `${this.#name} is empty.`
          : `${this.#name} holds no usable row: all ${number} are bad, the first because ${policy.skipped.rows[0]?.reason}.`,
        { details: { name: this.#name, rows: number, skipped: this.skipped } },
      )
    }
  }
}
