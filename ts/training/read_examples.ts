/** `read_examples`, of which only the promise is loaded before it is used. */

import type { Example, SkippedRows } from './data/examples.js'
import type { ExampleReader, ReadOptions } from './data/read_examples.js'
import type { DataSource } from './data/text_chunks.js'

export type { ExampleReader, ReadOptions } from './data/read_examples.js'

/**
 * Examples from a table: TSV, CSV, JSON lines, or plain lines of text, from a path (Node) or address (browsers), bytes, a
 * `File`, a stream or an iterable of texts. Give it to `Trainer` as it is, or iterate over it.
 *
 * While it is read it throws `INVALID_OPTION` for an unknown format, `INVALID_INPUT` naming the line for bad rows (or counts
 * them in `skipped`, with `on_bad_row: 'skip'`), for text that is not UTF-8 and for tables without a row, and
 * `FILE_NOT_FOUND` or `FILE_READ`.
 */
export function read_examples(source: DataSource, options: ReadOptions = {}): ExampleReader {
  let reader: ExampleReader | undefined
  const none: SkippedRows = { count: 0, rows: [] }
  return {
    get skipped() {
      return reader?.skipped ?? none
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<Example, void, undefined> {
      reader ??= (await import('./data/read_examples.js')).make_reader(source, options)
      yield* reader as AsyncIterable<Example>
    },
  }
}
