/** Bytes in a browser: gathered from a download and read synchronously where workers can. */

import type { Source } from '../../backend/contract.js'
import { DisposedError, FileError } from '../../errors.js'
import type { Sink } from '../transfer.js'

/** Chunks are handed to the browser in pieces of this size: it may keep blobs on disk, arrays never. */
const PIECE_BYTES = 16 * 1024 * 1024
/** There in workers only, and not in TypeScript's types for pages. */
declare const FileReaderSync: { new (): { readAsArrayBuffer(blob: Blob): ArrayBuffer } } | undefined

export class BlobSink implements Sink {
  #pieces: Blob[] = []
  #chunks: Uint8Array<ArrayBuffer>[] = []
  #pending = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk as Uint8Array<ArrayBuffer>)
    this.#pending += chunk.length
    this.#size += chunk.length
    if (this.#pending >= PIECE_BYTES) this.#hand_over()
  }

  async restart(): Promise<void> {
    this.#pieces = []
    this.#chunks = []
    this.#pending = 0
    this.#size = 0
  }

  blob(): Blob {
    this.#hand_over()
    return new Blob(this.#pieces)
  }

  #hand_over(): void {
    this.#pieces.push(new Blob(this.#chunks))
    this.#chunks = []
    this.#pending = 0
  }
}

/**
 * A file to be read in parts. The blob goes to the worker that reads it, wherever the browser keeps its bytes; `read` is
 * there where blobs can be read synchronously, which a page cannot.
 */
export function blob_source(name: string, blob: Blob, is_closed: () => boolean): Source {
  if (typeof FileReaderSync === 'undefined') return { name, size: blob.size, blob }
  const reader = new FileReaderSync()
  const read = (offset: number, into: Uint8Array) => {
    if (is_closed()) throw new DisposedError(`${name} was closed with its repository.`)
    const end = offset + into.length
    if (end > blob.size) throw new FileError('FILE_READ', `${name} ends before byte ${end}.`)
    into.set(new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset, end))))
  }
  return { name, size: blob.size, blob, read }
}
