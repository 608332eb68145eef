/** A hub repository at one commit, read through the browser's cache. */

import type { Source } from '../../backend/contract.js'
import { DisposedError, HubError, InputError, type SwitchTransformersError, throw_if_aborted } from '../../errors.js'
import { describe, type Subject } from '../failures.js'
import { check_file_name } from '../names.js'
import { OncePerFile } from '../once.js'
import { Progress } from '../progress.js'
import { COMMIT } from '../repository_names.js'
import type { RequestSettings } from '../request.js'
import { transfer } from '../transfer.js'
import type { Remote, RemoteFile, Repository, RepositoryOptions } from '../types.js'
import { blob_source } from './blobs.js'
import { PieceSink } from './pieces.js'
import { type Store, why_not_kept } from './store.js'

const PARALLEL_DOWNLOADS = 4
const MAX_READ_BYTES = 256 * 1024 * 1024

export class BrowserRepository implements Repository {
  readonly name: string
  readonly commit: string
  readonly #files: Map<string, RemoteFile>
  readonly #remote: Remote
  readonly #store: Store
  readonly #settings: RequestSettings
  readonly #options: RepositoryOptions
  readonly #prefix: string
  readonly #progress: Progress
  readonly #located = new OncePerFile((file) => this.#find_or_download(file))
  #closed = false

  private constructor(
    name: string,
    commit: string,
    files: RemoteFile[],
    remote: Remote,
    store: Store,
    settings: RequestSettings,
    options: RepositoryOptions,
  ) {
    this.name = name
    this.commit = commit
    this.#files = new Map(files.map((file) => [file.path, file]))
    this.#remote = remote
    this.#store = store
    this.#settings = settings
    this.#options = options
    this.#prefix = options.subfolder ? `${options.subfolder}/` : ''
    this.#progress = new Progress(name, options.progress_callback)
  }

  static async open(
    name: string,
    remote: Remote,
    store: Store,
    settings: RequestSettings,
    options: RepositoryOptions,
  ): Promise<BrowserRepository> {
    const revision = options.revision ?? 'main'
    const cached = COMMIT.test(revision) ? revision : await store.commit(name, revision)
    const offline = options.local_files_only ?? false
    const not_kept = () => {
      const message = `${describe({ repository: name, revision })} is not in the browser's cache, and "local_files_only" is set. Load it once while online.`
      return new HubError('HUB_OFFLINE', message, { details: { repository: name, revision } })
    }
    if (offline && cached === null) throw not_kept()
    let commit = cached
    if (!offline && !COMMIT.test(revision)) {
      try {
        commit = await remote.commit(cached === null ? undefined : 0)
        await store.keep_commit(name, revision, commit)
      } catch (error) {
        if (cached === null || !(error instanceof HubError && error.code === 'HUB_NETWORK')) throw error
      }
    }
    let files = await store.listing(name, commit as string)
    if (!files) {
      if (offline) throw not_kept()
      files = await remote.files(commit as string)
      await store.keep_listing(name, commit as string, files)
    }
    return new BrowserRepository(name, commit as string, files, remote, store, settings, options)
  }

  async list(): Promise<string[]> {
    const inside = [...this.#files.keys()].filter((file) => file.startsWith(this.#prefix))
    return inside.map((file) => file.slice(this.#prefix.length)).sort()
  }

  async has(file: string): Promise<boolean> {
    check_file_name(file)
    return this.#files.has(this.#prefix + file)
  }

  async read(file: string): Promise<Uint8Array | null> {
    check_file_name(file)
    const size = this.#files.get(this.#prefix + file)?.size ?? 0
    if (size > MAX_READ_BYTES) throw new InputError(`${file} has ${size} bytes, too many to be read at once.`)
    const blob = await this.#locate(file)
    return blob && new Uint8Array(await blob.arrayBuffer())
  }

  async source(file: string): Promise<Source | null> {
    const blob = await this.#locate(file)
    return blob && blob_source(file, blob, () => this.#closed)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    for (const file of files) {
      check_file_name(file)
      const entry = this.#files.get(this.#prefix + file)
      if (entry) this.#progress.expect(file, entry.size)
    }
    const queue = [...new Set(files)]
    const work = async () => {
      for (let file = queue.shift(); file !== undefined; file = queue.shift()) await this.#locate(file)
    }
    const results = await Promise.allSettled(Array.from({ length: PARALLEL_DOWNLOADS }, work))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    const files = await this.list()
    const message = `${this.name} has no ${this.#prefix}${file} at commit ${this.commit}. It has ${files.slice(0, 12).join(', ') || 'no files'}.`
    const details = {
      repository: this.name,
      commit: this.commit,
      file: this.#prefix + file,
      files: files.slice(0, 100),
    }
    return new HubError('HUB_NOT_FOUND', message, { details })
  }

  close(): void {
    this.#closed = true
    this.#located.clear()
  }

  #locate(file: string): Promise<Blob | null> {
    if (this.#closed) return Promise.reject(new DisposedError(`The repository ${this.name} was closed.`))
    return this.#located.get(file)
  }

  async #find_or_download(file: string): Promise<Blob | null> {
    check_file_name(file)
    throw_if_aborted(this.#options.signal)
    const entry = this.#files.get(this.#prefix + file)
    if (!entry) return null
    const subject = { repository: this.name, revision: this.#options.revision ?? 'main', file: entry.path }
    this.#progress.initiate(file)
    if (this.#options.force_download) await this.#store.forget_pieces(this.name, entry, 0)
    const kept = await PieceSink.open(this.#store, this.name, entry)
    const blob = kept instanceof Blob ? kept : await this.#download(file, entry, kept, subject)
    this.#progress.advance(file, entry.size, entry.size)
    this.#progress.done(file)
    return blob
  }

  /** Completes a file in the cache. */
  async #download(file: string, entry: RemoteFile, sink: PieceSink, subject: Subject): Promise<Blob> {
    if (this.#options.local_files_only) {
      const message = `${describe(subject)} is not in the browser's cache, and "local_files_only" is set. Load it once while online.`
      throw new HubError('HUB_OFFLINE', message, { details: { ...subject } })
    }
    this.#progress.download(file)
    const open = (start: number) => this.#remote.open(this.commit, entry, start)
    const on_bytes = (loaded: number) => this.#progress.advance(file, loaded, entry.size)
    try {
      await transfer(this.#settings, open, sink, entry, subject, on_bytes)
    } catch (error) {
      await sink.pause()
      throw error
    }
    const blob = await sink.finish(subject)
    if (!sink.is_kept) {
      const { message, why } = await why_not_kept()
      console.warn(`${entry.path} of ${this.name} (${entry.size} bytes) is used but not kept: ${message}.`)
      this.#progress.not_kept(file, why)
    }
    return blob
  }
}
