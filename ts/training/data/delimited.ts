/**
 * Rows of TSV and CSV, by Papa Parse (MIT, 7 kB gzipped; csv-parse carries a Buffer of its own into browsers, 122 kB).
 * Its low-level parser is used, fed with a window of text at a time, so that a file is never in memory as a whole, and
 * lines are counted here, since it counts rows.
 */

import Papa from 'papaparse'
import { InputError } from '../../errors.js'

export interface DelimitedOptions {
  delimiter: string
  /** What encloses fields that hold delimiters, quotes or line ends; null: nothing does. */
  quote: string | null
}

export interface Row {
  /** Where it begins, from 1. */
  line: number
  fields: string[]
  /** What is wrong with it. */
  fault?: string
}

/** Characters of one row. More is a quote that is never closed. */
const MAX_ROW = 2 ** 24
const WINDOW = 2 ** 16

export async function* delimited_rows(
  chunks: AsyncIterable<string>,
  name: string,
  options: DelimitedOptions,
): AsyncGenerator<Row[], void, undefined> {
  let text = ''
  let line = 1
  let wanted = WINDOW
  const parse = (last: boolean): Row[] => {
    // Line ends are made one here: the parser takes one kind per window, and a window may end between the two.
    const rows: Row[] = []
    const parser = new Papa.Parser({
      delimiter: options.delimiter,
      newline: '\n',
      // A character that no text holds stands for "none".
      quoteChar: options.quote ?? '\ufdd0',
    })
    const { data, errors, meta } = parser.parse(text, 0, !last) as Papa.ParseResult<string[]>
    const faults = new Map(errors.map(({ row, code }) => [row, FAULTS[code] ?? code]))
    for (const [index, fields] of data.entries()) {
      const fault = faults.get(index)
      const ends = fields.reduce((sum, field) => sum + count_ends(field), 0)
      if (fields.length > 1 || (fields[0] as string).trim() !== '') {
        rows.push({ line, fields, ...(fault !== undefined && { fault }) })
      }
      line += 1 + ends
    }
    text = last ? '' : text.slice(meta.cursor)
    return rows
  }
  for await (const chunk of normalised(chunks)) {
    text += chunk
    if (text.length < wanted) continue
    const rows = parse(false)
    if (text.length > MAX_ROW) {
      throw new InputError(
        `${name}, line ${line}: a row of more than ${MAX_ROW} characters. A quote is never closed, or quote should be null.`,
        { details: { name, line } },
      )
    }
    // A row that is longer than the window is looked at again only when twice as much is there.
    wanted = Math.max(WINDOW, 2 * text.length)
    if (rows.length > 0) yield rows
  }
  if (text !== '') {
    const rows = parse(true)
    if (rows.length > 0) yield rows
  }
}

const FAULTS: Readonly<Record<string, string>> = {
  MissingQuotes: 'a quoted field is never closed',
  InvalidQuotes: 'a quoted field goes on after its closing quote',
}

/** CR LF and CR as LF, also where a chunk ends between the two. */
async function* normalised(chunks: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let held = false
  for await (const chunk of chunks) {
    if (chunk === '') continue
    let text: string = held ? `\r${chunk}` : chunk
    held = text.endsWith('\r')
    if (held) text = text.slice(0, -1)
    yield text.replace(/\r\n?/g, '\n')
  }
  if (held) yield '\n'
}

function count_ends(field: string): number {
  let count = 0
  for (let at = field.indexOf('\n'); at >= 0; at = field.indexOf('\n', at + 1)) count++
  return count
}
