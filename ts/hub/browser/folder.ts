/** Files under an address, such as `/models/tiny/`, as a repository. Nothing is cached but by the browser itself. */

import type { Source } from '../../backend/contract.js'
import type { SwitchTransformersError } from '../../errors.js'
import { RangeRefused, type Subject } from '../failures.js'
import { check_file_name } from '../names.js'
import { OncePerFile } from '../once.js'
import { Progress } from '../progress.js'
import { chunks_of, type RequestSettings, request, retrying } from '../request.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { BlobSink, blob_source } from './blobs.js'

/**
 * Bytes that are held in blobs. Files beyond are read where they lie, if the server gives parts of them: Chromium has room
 * for 500 MB.
 */
const MOST_HELD = 400e6

/** Loaded where it is needed: most files are small, and what is asked for is there. */
const served = () => import('./served.js')

export class UrlRepository implements Repository {
  readonly name: string
  readonly #base: URL
  readonly #settings: RequestSettings
  readonly #progress: Progress
  readonly #sources = new OncePerFile((file) => retrying(this.#settings, () => this.#download(file)))
  /** Sizes of files that are read in parts while weights are loaded. */
  readonly #in_parts = new Map<string, number>()
  #room: number
  #closed = false

  constructor(name: string, base: URL, settings: RequestSettings, options: RepositoryOptions) {
    this.name = name
    this.#base = options.subfolder ? new URL(`${options.subfolder}/`, base) : base
    this.#settings = settings
    // The worker that reads has no other `fetch`.
    this.#room = options.fetch ? Infinity : MOST_HELD
    this.#progress = new Progress(name, options.progress_callback)
  }

  async list(): Promise<string[]> {
    return (await served()).known_files((file) => this.has(file))
  }

  async has(file: string): Promise<boolean> {
    check_file_name(file)
    const response = await retrying(this.#settings, () => this.#request(file, 'HEAD'))
    return response !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    const source = await this.#sources.get(file)
    const blob = source?.blob ?? (source && (await served()).refuse_whole(source))
    return blob && new Uint8Array(await blob.arrayBuffer())
  }

  async source(file: string): Promise<Source | null> {
    return this.#sources.get(file)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    await Promise.all(files.map((file) => this.#sources.get(file)))
  }

  loaded(percent: number): void {
    for (const [file, size] of this.#in_parts) {
      this.#progress.advance(file, (size * percent) / 100, size)
      if (percent === 100) this.#progress.done(file)
    }
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    return (await served()).absent_file(file, this.#base, await this.list())
  }

  close(): void {
    this.#closed = true
    this.#sources.clear()
  }

  async #download(file: string): Promise<Source | null> {
    check_file_name(file)
    const response = await this.#request(file, 'GET')
    if (!response) return null
    this.#progress.initiate(file)
    this.#progress.download(file)
    const length = Number(response.headers.get('content-length'))
    if (length > this.#room) {
      const address = await (await served()).parts_of(this.#url(file), length, this.#settings, this.#subject(file))
      if (address) {
        void response.body?.cancel().catch(() => {})
        this.#in_parts.set(file, length)
        this.#progress.advance(file, 0, length)
        return { name: file, size: length, address }
      }
    }
    this.#room -= length || 0
    const sink = new BlobSink()
    for await (const chunk of chunks_of(response.body)) {
      await sink.write(chunk)
      this.#progress.advance(file, sink.size, Math.max(length, sink.size + 1))
    }
    this.#progress.advance(file, sink.size, sink.size)
    this.#progress.done(file)
    return blob_source(file, sink.blob(), () => this.#closed)
  }

  #url(file: string): URL {
    return new URL(file.split('/').map(encodeURIComponent).join('/'), this.#base)
  }

  #subject(file: string): Subject {
    return { repository: this.name, revision: 'as served', file }
  }

  async #request(file: string, method: 'GET' | 'HEAD'): Promise<Response | null> {
    const url = this.#url(file)
    const subject = this.#subject(file)
    try {
      const response = await request(this.#settings, url, { method }, subject)
      // Servers of single-page apps answer everything with their page.
      const is_page = /^text\/html\b/.test(response.headers.get('content-type') ?? '')
      if (!is_page) return response
      void response.body?.cancel().catch(() => {})
      return null
    } catch (error) {
      if ((error as { code?: unknown }).code === 'HUB_NOT_FOUND') return null
      if (error instanceof RangeRefused) throw (await served()).refused(url, subject)
      throw error
    }
  }
}
