/** Files under an address, such as `/models/tiny/`, as a repository. Nothing is cached but by the browser itself. */

import type { Source } from '../../backend/contract.js'
import { FileError, type SwitchTransformersError } from '../../errors.js'
import { Passing } from '../failures.js'
import { check_file_name } from '../names.js'
import { Progress } from '../progress.js'
import { chunks_of, type RequestSettings, request } from '../request.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { BlobSink, blob_source } from './blobs.js'

/** Servers do not list folders, so these are asked for. */
const KNOWN_FILES = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'special_tokens_map.json',
  'spiece.model',
  'tokenizer.json',
  'tokenizer_config.json',
]

export class UrlRepository implements Repository {
  readonly name: string
  readonly #base: URL
  readonly #settings: RequestSettings
  readonly #progress: Progress
  readonly #blobs = new Map<string, Promise<Blob | null>>()
  #closed = false

  constructor(name: string, base: URL, settings: RequestSettings, options: RepositoryOptions) {
    this.name = name
    this.#base = options.subfolder ? new URL(`${options.subfolder}/`, base) : base
    this.#settings = settings
    this.#progress = new Progress(name, options.progress_callback)
  }

  async list(): Promise<string[]> {
    const found = await Promise.all(KNOWN_FILES.map((file) => this.has(file)))
    return KNOWN_FILES.filter((_, i) => found[i])
  }

  async has(file: string): Promise<boolean> {
    check_file_name(file)
    const response = await this.#request(file, 'HEAD')
    return response !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    const blob = await this.#blob(file)
    return blob && new Uint8Array(await blob.arrayBuffer())
  }

  async source(file: string): Promise<Source | null> {
    const blob = await this.#blob(file)
    return blob && blob_source(file, blob, () => this.#closed)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    await Promise.all(files.map((file) => this.#blob(file)))
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    const files = await this.list()
    const there = files.length > 0 ? `It has ${files.join(', ')}` : 'None of the usual files is there'
    const message = `There is no ${file} at ${this.#base.href}. ${there}.`
    return new FileError('FILE_NOT_FOUND', message, { details: { file, folder: this.#base.href, files } })
  }

  close(): void {
    this.#closed = true
    this.#blobs.clear()
  }

  #blob(file: string): Promise<Blob | null> {
    let blob = this.#blobs.get(file)
    if (!blob) {
      blob = this.#download(file).catch((error) => {
        this.#blobs.delete(file)
        throw error instanceof Passing ? error.error : error
      })
      this.#blobs.set(file, blob)
    }
    return blob
  }

  async #download(file: string): Promise<Blob | null> {
    check_file_name(file)
    const response = await this.#request(file, 'GET')
    if (!response) return null
    this.#progress.initiate(file)
    this.#progress.download(file)
    const length = Number(response.headers.get('content-length'))
    const sink = new BlobSink()
    for await (const chunk of chunks_of(response.body)) {
      await sink.write(chunk)
      this.#progress.advance(file, sink.size, Math.max(length, sink.size + 1))
    }
    this.#progress.advance(file, sink.size, sink.size)
    this.#progress.done(file)
    return sink.blob()
  }

  async #request(file: string, method: 'GET' | 'HEAD'): Promise<Response | null> {
    const url = new URL(file.split('/').map(encodeURIComponent).join('/'), this.#base)
    const subject = { repository: this.name, revision: 'as served', file }
    try {
      const response = await request(this.#settings, url, { method }, subject)
      // Servers of single-page apps answer everything with their page.
      const is_page = /^text\/html\b/.test(response.headers.get('content-type') ?? '')
      if (!is_page) return response
      void response.body?.cancel().catch(() => {})
      return null
    } catch (error) {
      if (error instanceof Passing) throw error.error
      if ((error as { code?: unknown }).code === 'HUB_NOT_FOUND') return null
      throw error
    }
  }
}
