/** A hub repository at one commit, read through the cache. */

import { readFile } from 'node:fs/promises'
import type { Source } from '../../backend/contract.js'
import { DisposedError, HubError, type SwitchTransformersError, throw_if_aborted } from '../../errors.js'
import { describe, integrity_error } from '../failures.js'
import { check_file_name } from '../names.js'
import { OncePerFile } from '../once.js'
import { Progress } from '../progress.js'
import { COMMIT } from '../repository_names.js'
import type { Remote, RemoteFile, Repository, RepositoryOptions } from '../types.js'
import { RepositoryCache } from './cache.js'
import { download } from './download.js'
import type { HubSettings } from './environment.js'
import { check_readable_size, file_error, file_size, OpenFiles } from './files.js'
import { some } from './local.js'

const PARALLEL_DOWNLOADS = 4

/** `connect` makes the client: it is loaded only when there is something to ask. */
export async function open_hub_repository(
  name: string,
  options: RepositoryOptions,
  settings: HubSettings,
  connect: (settings: HubSettings, name: string, revision: string) => Promise<Remote>,
): Promise<Repository> {
  const revision = options.revision ?? 'main'
  const cache = new RepositoryCache(settings.cache_dir, name)
  const cached = await cache.commit(revision)
  if (settings.offline) {
    if (cached === null) throw nothing_cached(name, revision, cache, options)
    return new HubRepository(name, revision, cached, cache, null, null, settings, options)
  }
  const remote = await connect(settings, name, revision)
  if (COMMIT.test(revision)) return new HubRepository(name, revision, revision, cache, remote, null, settings, options)
  try {
    // With the files at hand there is no use in insisting.
    const commit = await remote.commit(cached === null ? undefined : 0)
    await cache.remember_commit(revision, commit)
    return new HubRepository(name, revision, commit, cache, remote, null, settings, options)
  } catch (error) {
    if (cached === null || options.force_download || !is_unreachable(error)) throw error
    return new HubRepository(name, revision, cached, cache, null, error, settings, options)
  }
}

function is_unreachable(error: unknown): error is HubError {
  return error instanceof HubError && error.code === 'HUB_NETWORK'
}

function nothing_cached(name: string, revision: string, cache: RepositoryCache, options: RepositoryOptions): HubError {
  const why = options.local_files_only ? '"local_files_only" is set' : 'HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set'
  const message = `${describe({ repository: name, revision })} is not in the cache (${cache.folder}), and ${why}. Load it once while online.`
  return new HubError('HUB_OFFLINE', message, { details: { repository: name, revision, folder: cache.folder } })
}

class HubRepository implements Repository {
  readonly name: string
  readonly commit: string
  readonly #revision: string
  readonly #cache: RepositoryCache
  /** Null when only the cache may be used: `#unreachable` says why where it was not asked for. */
  #remote: Remote | null
  #unreachable: HubError | null
  readonly #settings: HubSettings
  readonly #options: RepositoryOptions
  readonly #prefix: string
  readonly #progress: Progress
  readonly #open = new OpenFiles()
  /** A file's path in the cache, downloaded and checked. */
  readonly #located = new OncePerFile((file) => this.#find_or_download(file))
  #listing: Promise<Map<string, RemoteFile> | null> | undefined
  #closed = false

  constructor(
    name: string,
    revision: string,
    commit: string,
    cache: RepositoryCache,
    remote: Remote | null,
    unreachable: HubError | null,
    settings: HubSettings,
    options: RepositoryOptions,
  ) {
    this.name = name
    this.commit = commit
    this.#revision = revision
    this.#cache = cache
    this.#remote = remote
    this.#unreachable = unreachable
    this.#settings = settings
    this.#options = options
    this.#prefix = options.subfolder ? `${options.subfolder}/` : ''
    this.#progress = new Progress(name, options.progress_callback)
  }

  async list(): Promise<string[]> {
    const listing = await this.#list()
    const files = listing ? [...listing.keys()] : await this.#cache.cached_files(this.commit)
    const inside = files.filter((file) => file.startsWith(this.#prefix))
    return inside.map((file) => file.slice(this.#prefix.length)).sort()
  }

  async has(file: string): Promise<boolean> {
    check_file_name(file)
    const full = this.#prefix + file
    const listing = await this.#list()
    return listing ? listing.has(full) : (await file_size(this.#cache.pointer(this.commit, full))) !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    check_file_name(file)
    const entry = (await this.#list())?.get(this.#prefix + file)
    if (entry) check_readable_size(entry.size, file)
    const path = await this.#located.get(file)
    if (path === null) return null
    check_readable_size((await file_size(path)) ?? 0, path)
    return readFile(path).catch((error) => {
      throw file_error(error, path, 'read')
    })
  }

  async source(file: string): Promise<Source | null> {
    const path = await this.#located.get(file)
    if (path === null) return null
    const size = await file_size(path)
    if (size === null) throw file_error(new Error('it has gone'), path, 'read')
    return this.#open.source(file, path, size)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    for (const file of files) check_file_name(file)
    const listing = await this.#list()
    const wanted = listing ? files.filter((file) => listing.has(this.#prefix + file)) : files
    for (const file of wanted) {
      const entry = listing?.get(this.#prefix + file)
      if (entry) this.#progress.expect(file, entry.size)
    }
    const queue = [...new Set(wanted)]
    let failed = false
    const work = async () => {
      for (let file = queue.shift(); file !== undefined && !failed; file = queue.shift()) {
        try {
          await this.#located.get(file)
        } catch (error) {
          failed = true
          throw error
        }
      }
    }
    // All of them have ended before this does, so that no download goes on behind an error.
    const results = await Promise.allSettled(Array.from({ length: PARALLEL_DOWNLOADS }, work))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    const full = this.#prefix + file
    const listing = await this.#list().catch(() => null)
    const details = { repository: this.name, revision: this.#revision, commit: this.commit, file: full }
    if (!this.#remote && !(listing && !listing.has(full))) return this.#not_cached(full)
    const files = await this.list().catch(() => [])
    const message = `${this.name} has no ${full} at revision ${this.#revision}. It has ${some(files) || 'no files'}.`
    return new HubError('HUB_NOT_FOUND', message, { details: { ...details, files: files.slice(0, 100) } })
  }

  close(): void {
    this.#closed = true
    this.#open.close()
  }

  /** All files of the commit; null when the hub cannot be asked and did not tell before. */
  #list(): Promise<Map<string, RemoteFile> | null> {
    if (this.#closed) return Promise.reject(new DisposedError(`The repository ${this.name} was closed.`))
    this.#listing ??= this.#fetch_listing().catch((error) => {
      this.#listing = undefined
      throw error
    })
    return this.#listing
  }

  async #fetch_listing(): Promise<Map<string, RemoteFile> | null> {
    let files = await this.#cache.listing(this.commit)
    if (!files && this.#remote) {
      const in_cache = await this.#cache.commit(this.commit)
      try {
        files = await this.#remote.files(this.commit, in_cache === null ? undefined : 0)
        await this.#cache.remember_listing(this.commit, files)
      } catch (error) {
        if (in_cache === null || this.#options.force_download || !is_unreachable(error)) throw error
        this.#remote = null
        this.#unreachable = error
      }
    }
    return files ? new Map(files.map((file) => [file.path, file])) : null
  }

  async #find_or_download(file: string): Promise<string | null> {
    check_file_name(file)
    throw_if_aborted(this.#options.signal)
    const full = this.#prefix + file
    const listing = await this.#list()
    const entry = listing?.get(full)
    if (listing && !entry) return null

    const cached = this.#remote && this.#options.force_download ? null : await this.#cached(full, entry)
    if (cached === null && !this.#remote) {
      if (!entry) return null
      throw this.#not_cached(full)
    }
    this.#progress.initiate(file)
    const path = cached ?? (await this.#download(file, full, entry as RemoteFile))
    const size = entry?.size ?? (await file_size(path)) ?? 0
    this.#progress.advance(file, size, size)
    this.#progress.done(file)
    return path
  }

  /** The path of a file in the cache, if it is there and sound. An unsound one is an error only where it must serve. */
  async #cached(full: string, entry: RemoteFile | undefined): Promise<string | null> {
    const path = this.#cache.pointer(this.commit, full)
    const size = await file_size(path)
    if (size === null) return null
    const etag = entry?.etag ?? (await this.#cache.etag(this.commit, full))
    const error = await this.#unsound(path, full, size, entry?.size, etag)
    if (!error) return path
    if (!this.#remote) throw error
    await this.#cache.discard(this.commit, full, etag)
    return null
  }

  async #unsound(
    path: string,
    full: string,
    size: number,
    expected_size: number | undefined,
    etag: string | null,
  ): Promise<HubError | null> {
    const subject = { repository: this.name, revision: this.#revision, file: full }
    if (expected_size !== undefined && size !== expected_size)
      return integrity_error(subject, 'size', expected_size, size)
    if (etag === null || !(await this.#cache.is_writable())) return null
    const hash = await this.#cache.wrong_hash(path, etag, this.#options.signal)
    return hash === null ? null : integrity_error(subject, 'hash', etag, hash)
  }

  #download(file: string, full: string, entry: RemoteFile): Promise<string> {
    return download({
      settings: this.#settings,
      cache: this.#cache,
      remote: this.#remote as Remote,
      subject: { repository: this.name, revision: this.#revision, file: full },
      commit: this.commit,
      file: entry,
      force: this.#options.force_download ?? false,
      on_start: () => this.#progress.download(file),
      on_bytes: (loaded) => this.#progress.advance(file, loaded, entry.size),
    })
  }

  #not_cached(full: string): HubError {
    const details = { repository: this.name, revision: this.#revision, file: full, folder: this.#cache.folder }
    const where = `${describe(details)} is not in the cache (${this.#cache.folder})`
    if (this.#unreachable) {
      const message = `${where}, and the hub could not be reached: ${this.#unreachable.message}`
      return new HubError('HUB_NETWORK', message, { cause: this.#unreachable, details })
    }
    const message = `${where}, and only local files are allowed. Load it once while online.`
    return new HubError('HUB_OFFLINE', message, { details })
  }
}
