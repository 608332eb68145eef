/** A file of a repository in the browser's cache: read from there, or downloaded into it piece by piece. */

import { integrity_error, type Subject } from '../failures.js'
import type { Sink } from '../transfer.js'
import type { RemoteFile } from '../types.js'
import { PIECE_BYTES, PieceBuffer } from './blobs.js'
import { Sha256 } from './sha256.js'
import { hex, piece_count, type Store } from './store.js'

/** Bytes of the git blobs that are hashed, which must be in memory as a whole. The hub keeps none that are larger. */
const MAX_HASHED_BLOB = 64 * 2 ** 20

export class PieceSink implements Sink {
  readonly #store: Store
  readonly #name: string
  readonly #file: RemoteFile
  readonly #pieces: Blob[] = []
  readonly #pending = new PieceBuffer()
  #hash = new Sha256()
  #is_kept = true

  private constructor(store: Store, name: string, file: RemoteFile) {
    this.#store = store
    this.#name = name
    this.#file = file
  }

  /** The file if it is there, whole and sound; otherwise a sink that holds what is there of it. */
  static async open(store: Store, name: string, file: RemoteFile): Promise<Blob | PieceSink> {
    const kept: Blob[] = []
    let size = 0
    while (kept.length < piece_count(file)) {
      const blob = await store.piece(name, file, kept.length)
      if (blob === null || blob.size > Math.min(PIECE_BYTES, file.size - size)) break
      kept.push(blob)
      size += blob.size
      if (size === file.size) return new Blob(kept)
      if (blob.size < PIECE_BYTES) break
    }
    const sink = new PieceSink(store, name, file)
    for (const blob of kept) {
      const bytes = new Uint8Array(await blob.arrayBuffer())
      sink.#hash.update(bytes)
      if (blob.size === PIECE_BYTES) sink.#pieces.push(blob)
      else sink.#pending.add(bytes)
    }
    await store.forget_pieces(name, file, kept.length)
    return sink
  }

  /** Whether all that has arrived is in the cache. */
  get is_kept(): boolean {
    return this.#is_kept
  }

  get size(): number {
    return this.#pieces.length * PIECE_BYTES + this.#pending.size
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk)
    for (let at = 0; at < chunk.length; ) {
      const end = Math.min(chunk.length, at + PIECE_BYTES - this.#pending.size)
      this.#pending.add(chunk.subarray(at, end))
      at = end
      // The last one waits for `finish`: a file that is there whole has been checked whole.
      if (this.#pending.size === PIECE_BYTES && this.size < this.#file.size) await this.#hand_over()
    }
  }

  async restart(): Promise<void> {
    this.#pieces.length = 0
    this.#pending.clear()
    this.#hash = new Sha256()
    await this.#store.forget_pieces(this.#name, this.#file, 0)
  }

  /** Keeps what has arrived of a download that is broken off. */
  async pause(): Promise<void> {
    if (this.#pending.size > 0 && this.size < this.#file.size) await this.#hand_over()
  }

  /** The whole file. Throws HUB_INTEGRITY, and forgets everything, where it is not what its hash says. */
  async finish(subject: Subject): Promise<Blob> {
    const { etag, size } = this.#file
    const found = etag.length === 64 ? this.#hash.hex() : await this.#git_hash()
    if (found !== null && found !== etag) {
      await this.restart()
      throw integrity_error(subject, 'hash', etag, found)
    }
    if (this.#pending.size > 0 || size === 0) await this.#hand_over()
    return new Blob(this.#pieces)
  }

  async #hand_over(): Promise<void> {
    const blob = this.#pending.blob()
    // Without its predecessors a piece is of no use.
    const kept = this.#is_kept ? await this.#store.keep_piece(this.#name, this.#file, this.#pieces.length, blob) : null
    this.#is_kept = kept !== null
    this.#pieces.push(kept ?? blob)
    this.#pending.clear()
  }

  /** The SHA-1 by which git names small files; null where it cannot be known. */
  async #git_hash(): Promise<string | null> {
    const { size } = this.#file
    const subtle = globalThis.crypto?.subtle
    if (!subtle || size > MAX_HASHED_BLOB) return null
    const content = new Blob([`blob ${size}\0`, ...this.#pieces, this.#pending.blob()])
    return hex(await subtle.digest('SHA-1', await content.arrayBuffer()))
  }
}
