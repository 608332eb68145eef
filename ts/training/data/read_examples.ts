/** Tables of examples: TSV, CSV, JSON lines and plain lines of text, with the number of every row that is bad. */

import { InputError, OptionError } from '../../errors.js'
import { show } from '../../utils/json.js'
import { delimited_rows, type Row } from './delimited.js'
import {
  type ColumnOptions,
  type Example,
  RowPolicy,
  type SkippedRows,
  SOURCE_COLUMNS,
  TARGET_COLUMNS,
} from './examples.js'
import { type DataSource, text_chunks } from './text_chunks.js'

export type DataFormat = 'tsv' | 'csv' | 'jsonl' | 'text'

export interface ReadOptions extends ColumnOptions {
  /** Default: by the name's ending. `text`: one text per line, without targets. */
  format?: DataFormat
  /** Whether the first row names the columns. Default: where it holds the columns' names. */
  header?: boolean
  /** Between fields. Default: a tab, or a comma for CSV. */
  delimiter?: string
  /** What encloses fields; null: nothing does. Default `"`. */
  quote?: string | null
  /** Rows that are no example: stop at the first, or count them and go on. Default `error`. */
  on_bad_row?: 'error' | 'skip'
  /** For messages. Default: the path. */
  name?: string
}

/** Examples as they are read, and what was left out so far. Can be iterated again where its source can. */
export interface ExampleReader extends AsyncIterable<Example> {
  readonly skipped: SkippedRows
}

const FORMATS: readonly string[] = ['tsv', 'csv', 'jsonl', 'text'] satisfies DataFormat[]
const ENDINGS: Readonly<Record<string, DataFormat>> = {
  tsv: 'tsv',
  tab: 'tsv',
  csv: 'csv',
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  txt: 'text',
}

/**
 * Reads examples from a table.
 *
 * @throws {OptionError} for a format that is not known. While it is read: {InputError} `INVALID_INPUT` for bad rows, text
 * that is not UTF-8, and tables without a row; `FILE_NOT_FOUND` and `FILE_READ`.
 */
export function make_reader(source: DataSource, options: ReadOptions = {}): ExampleReader {
  const name = options.name ?? (typeof source === 'string' ? source : 'the data')
  const format = options.format ?? ENDINGS[/\.(\w+)$/.exec(name)?.[1]?.toLowerCase() ?? '']
  if (format === undefined || !FORMATS.includes(format)) {
    const found = options.format === undefined ? `the name ${show(name)} does not tell it` : `not ${show(format)}`
    throw new OptionError('INVALID_OPTION', `format must be one of ${FORMATS.join(', ')}; ${found}.`, {
      details: { option: 'format' },
    })
  }
  const policy = new RowPolicy(options.on_bad_row ?? 'error', name)
  return {
    get skipped() {
      return policy.skipped
    },
    async *[Symbol.asyncIterator]() {
      policy.skipped.count = 0
      policy.skipped.rows.length = 0
      const chunks = text_chunks(source, name)
      let found = false
      const rows =
        format === 'jsonl' || format === 'text'
          ? line_examples(chunks, format, policy, options)
          : table_examples(chunks, name, format, policy, options)
      for await (const example of rows) {
        found = true
        yield example
      }
      if (found) return
      const { count, rows: bad } = policy.skipped
      throw new InputError(
        count === 0
          ? `${name} holds no rows.`
          : `${name} holds no usable row; ${count} were left out, the first in line ${bad[0]?.line}: ${bad[0]?.reason}.`,
        { details: { name, skipped: policy.skipped } },
      )
    },
  }
}

async function* table_examples(
  chunks: AsyncIterable<string>,
  name: string,
  format: 'tsv' | 'csv',
  policy: RowPolicy,
  options: ReadOptions,
): AsyncGenerator<Example, void, undefined> {
  const delimiter = options.delimiter ?? (format === 'csv' ? ',' : '\t')
  const { quote = '"' } = options
  let columns: string[] | undefined
  for await (const rows of delimited_rows(chunks, name, { delimiter, quote })) {
    for (const row of rows) {
      if (columns === undefined) {
        const names = header_of(row, options)
        columns = names ?? row.fields.map((_, index) => String(index))
        check_columns(columns, names !== null, name, options)
        if (names !== null) continue
      }
      const example = table_example(row, columns, policy, options)
      if (example !== undefined) yield example
    }
  }
}

/** The first row's names, or null where it is an example already. */
function header_of({ fields }: Row, options: ReadOptions): string[] | null {
  const names = fields.map((field) => field.trim())
  if (options.header === false) return null
  if (options.header === true) return names
  const wanted = [options.source_column, options.target_column].filter((column) => typeof column === 'string')
  if (wanted.length > 0) return wanted.every((column) => names.includes(column)) ? names : null
  const usual = (list: readonly string[]) => names.some((column) => list.includes(column))
  return usual(SOURCE_COLUMNS) && (options.texts_only || usual(TARGET_COLUMNS)) ? names : null
}

function check_columns(columns: string[], named: boolean, name: string, options: ReadOptions): void {
  const needed = options.texts_only ? 1 : 2
  if (columns.length < needed) {
    throw new InputError(
      `${name} has ${columns.length} column in its first row; a source and a target are needed. Is the delimiter another one?`,
      { details: { name, columns } },
    )
  }
  for (const option of ['source_column', 'target_column'] as const) {
    const column = options[option]
    if (typeof column !== 'string' || columns.includes(column)) continue
    throw new InputError(
      `${name} has no column ${show(column)} (${option}); it has ${show(columns)}${named ? '' : ' (no header was found)'}.`,
      { details: { name, option, columns } },
    )
  }
}

function table_example(row: Row, columns: string[], policy: RowPolicy, options: ReadOptions): Example | undefined {
  if (row.fault !== undefined) {
    policy.bad(row.line, row.fault)
    return undefined
  }
  if (row.fields.length !== columns.length) {
    policy.bad(row.line, `it has ${row.fields.length} fields, and there are ${columns.length} columns`)
    return undefined
  }
  const by_name = Object.fromEntries(columns.map((column, index) => [column, row.fields[index]]))
  const unnamed = columns[0] === '0' && options.source_column == null && options.target_column == null
  const chosen = unnamed ? { ...options, source_column: '0', target_column: '1' } : options
  return policy.example(by_name, row.line, chosen)
}

async function* line_examples(
  chunks: AsyncIterable<string>,
  format: 'jsonl' | 'text',
  policy: RowPolicy,
  options: ReadOptions,
): AsyncGenerator<Example, void, undefined> {
  let line = 0
  for await (const text of lines(chunks)) {
    line += 1
    if (text.trim() === '') continue
    if (format === 'text') {
      const example = policy.example(text, line, { ...options, texts_only: true })
      if (example !== undefined) yield example
      continue
    }
    let row: unknown
    try {
      row = JSON.parse(text)
    } catch (error) {
      policy.bad(line, `it is not JSON (${error instanceof Error ? error.message : String(error)})`)
      continue
    }
    const example = policy.example(row, line, options)
    if (example !== undefined) yield example
  }
}

async function* lines(chunks: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let parts: string[] = []
  for await (const chunk of chunks) {
    const pieces = chunk.split('\n')
    const last = pieces.pop() as string
    for (const piece of pieces) {
      parts.push(piece)
      yield parts.join('').replace(/\r$/, '')
      parts = []
    }
    parts.push(last)
  }
  const rest = parts.join('').replace(/\r$/, '')
  if (rest !== '') yield rest
}
