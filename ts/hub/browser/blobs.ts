/** Bytes in a browser: gathered from a download and read synchronously where workers can. */

import type { Source } from '../../backend/contract.js'
import { DisposedError, FileError } from '../../errors.js'
import type { Sink } from '../transfer.js'

/** Bytes are handed to the browser in pieces of this size: it may keep blobs on disk, arrays never. */
export const PIECE_BYTES = 16 * 2 ** 20

/** There in workers only, and not in TypeScript's types for pages. */
declare const FileReaderSync: { new (): { readAsArrayBuffer(blob: Blob): ArrayBuffer } } | undefined

/** Gathers chunks, which may be overwritten by the next ones, in one buffer that is used again and again. */
export class PieceBuffer {
  #buffer = new Uint8Array(2 ** 16)
  #size = 0

  get size(): number {
    return this.#size
  }

  add(bytes: Uint8Array): void {
    const size = this.#size + bytes.length
    if (size > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(size, Math.min(2 * this.#buffer.length, PIECE_BYTES)))
      larger.set(this.#buffer.subarray(0, this.#size))
      this.#buffer = larger
    }
    this.#buffer.set(bytes, this.#size)
    this.#size = size
  }

  clear(): void {
    this.#size = 0
  }

  /** What has been gathered; it stays. */
  blob(): Blob {
    return new Blob([this.#buffer.subarray(0, this.#size)])
  }
}

export class BlobSink implements Sink {
  #pieces: Blob[] = []
  readonly #pending = new PieceBuffer()
  #size = 0

  get size(): number {
    return this.#size
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#pending.add(chunk)
    this.#size += chunk.length
    if (this.#pending.size >= PIECE_BYTES) await settled(this.#hand_over())
  }

  async restart(): Promise<void> {
    this.#pieces = []
    this.#pending.clear()
    this.#size = 0
  }

  blob(): Blob {
    this.#hand_over()
    return new Blob(this.#pieces)
  }

  #hand_over(): Blob {
    const blob = this.#pending.blob()
    this.#pieces.push(blob)
    this.#pending.clear()
    return blob
  }
}

/** Until then a blob's bytes are in the page's memory: reading waits for all of them to have left. */
async function settled(blob: Blob): Promise<void> {
  try {
    await blob.slice(blob.size - 1).arrayBuffer()
  } catch (cause) {
    const advice = 'Serve files of this size with HTTP range requests.'
    throw new FileError('FILE_READ', `The browser has no room for what has been downloaded. ${advice}`, { cause })
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
