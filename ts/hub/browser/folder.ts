/** Files under an address, such as `/models/tiny/`, as a repository. Nothing is cached but by the browser itself. */

import type { Source } from '../../backend/contract.js'
import { FileError, HubError, type SwitchTransformersError } from '../../errors.js'
import { describe, RangeRefused } from '../failures.js'
import { check_file_name } from '../names.js'
import { OncePerFile } from '../once.js'
import { Progress } from '../progress.js'
import { chunks_of, type RequestSettings, request, retrying } from '../request.js'
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
  readonly #blobs = new OncePerFile((file) => retrying(this.#settings, () => this.#download(file)))
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
    const response = await retrying(this.#settings, () => this.#request(file, 'HEAD'))
    return response !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    const blob = await this.#blobs.get(file)
    return blob && new Uint8Array(await blob.arrayBuffer())
  }

  async source(file: string): Promise<Source | null> {
    const blob = await this.#blobs.get(file)
    return blob && blob_source(file, blob, () => this.#closed)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    await Promise.all(files.map((file) => this.#blobs.get(file)))
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
      if ((error as { code?: unknown }).code === 'HUB_NOT_FOUND') return null
      // No part was asked for.
      if (error instanceof RangeRefused) {
        const message = `${url.host} refused ${describe(subject)} with HTTP 416.`
        throw new HubError('HUB_NETWORK', message, { details: { status: 416, ...subject } })
      }
      throw error
    }
  }
}
