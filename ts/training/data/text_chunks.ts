/** Bytes or texts from anywhere, as pieces of text. */

import { InputError } from '../../errors.js'
import { show } from '../../utils/json.js'
import { get_training_platform } from '../platform.js'

/**
 * Where a table comes from: a path in Node or an address in browsers, bytes, a `Blob` or `File`, a stream, or any
 * iterable of bytes or texts.
 */
export type DataSource =
  | string
  | Uint8Array
  | ArrayBuffer
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | string>
  | Iterable<Uint8Array | string>

/** UTF-8 is decoded; a byte order mark in front is left out; bytes that are no UTF-8 are an error. */
export async function* text_chunks(source: DataSource, name: string): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let first = true
  for await (const chunk of chunks_of(source, name)) {
    let text: string
    if (typeof chunk === 'string') {
      text = first ? chunk.replace(/^\ufeff/, '') : chunk
    } else {
      text = decode(decoder, chunk, name)
    }
    if (text !== '') first = false
    yield text
  }
  const rest = decode(decoder, undefined, name)
  if (rest !== '') yield rest
}

function decode(decoder: TextDecoder, chunk: Uint8Array | undefined, name: string): string {
  try {
    return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true })
  } catch (cause) {
    throw new InputError(`${name} is not UTF-8 text. Save it as UTF-8.`, { cause, details: { name } })
  }
}

async function* chunks_of(source: DataSource, name: string): AsyncGenerator<Uint8Array | string, void, undefined> {
  if (typeof source === 'string') {
    yield* (await get_training_platform()).read_file(source)
  } else if (source instanceof Uint8Array) {
    yield source
  } else if (source instanceof ArrayBuffer) {
    yield new Uint8Array(source)
  } else if (typeof Blob !== 'undefined' && source instanceof Blob) {
    yield* stream_chunks(source.stream())
  } else if (typeof ReadableStream !== 'undefined' && source instanceof ReadableStream) {
    yield* stream_chunks(source)
  } else if (
    typeof source === 'object' &&
    source !== null &&
    (Symbol.asyncIterator in source || Symbol.iterator in source)
  ) {
    for await (const chunk of source) {
      if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
        throw new InputError(`${name} gives ${show(chunk)}; expected bytes or texts.`)
      }
      yield chunk
    }
  } else {
    throw new InputError(
      `Data come from a path, bytes, a Blob, a stream or an iterable of texts, not from ${show(source)}.`,
    )
  }
}

/** Not every engine iterates over streams. */
async function* stream_chunks(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}
