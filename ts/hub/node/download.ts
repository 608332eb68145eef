/** One file from the hub into the cache: locked, resumed, hashed, and only then given its name. */

import type { Hash } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { FileError, type HubError, SwitchTransformersError } from '../../errors.js'
import { integrity_error, type Subject } from '../failures.js'
import type { RequestSettings } from '../request.js'
import { type Sink, transfer } from '../transfer.js'
import type { Remote, RemoteFile } from '../types.js'
import type { RepositoryCache } from './cache.js'
import { hash_file, hash_for } from './digest.js'
import { file_error, file_size } from './files.js'
import { with_lock } from './lock.js'

export interface Download {
  settings: RequestSettings
  cache: RepositoryCache
  remote: Remote
  subject: Subject & { file: string }
  commit: string
  file: RemoteFile
  force: boolean
  on_start: () => void
  on_bytes: (loaded: number) => void
}

/** Downloads a file unless another process has done so by then, and returns its path in the snapshot. */
export async function download(task: Download): Promise<string> {
  const { cache, file, settings, subject } = task
  const { etag } = file
  const blob = cache.blob(etag)
  try {
    return await with_lock(cache.lock(etag), settings.signal, async () => {
      // Another process may have been faster, or another file or revision has the same content.
      const there = !task.force && (await file_size(blob)) === file.size
      if (!there || (await cache.wrong_hash(blob, etag, settings.signal)) !== null) {
        await mkdir(dirname(blob), { recursive: true })
        task.on_start()
        const error = await fetch_blob(task)
        if (error) throw error
        await cache.mark_verified(blob, etag)
      } else {
        // Another client finished what was begun here.
        await unlink(cache.partial(etag)).catch(() => {})
      }
      return await cache.point(task.commit, subject.file, etag)
    })
  } catch (error) {
    if (error instanceof SwitchTransformersError || !is_system_error(error)) throw error
    throw file_error(error, cache.folder, 'written')
  }
}

/** The error where the bytes are not those that were announced. */
async function fetch_blob(task: Download): Promise<HubError | undefined> {
  const { cache, file, settings, subject } = task
  const partial = cache.partial(file.etag)
  const resumed = ((await file_size(partial)) ?? 0) > 0
  await check_free_space(partial, file.size)
  const sink = await PartialFile.open(partial, file, settings.signal)
  let hash: string
  try {
    await transfer(settings, (start) => task.remote.open(task.commit, file, start), sink, file, subject, task.on_bytes)
    hash = sink.digest()
    // The name promises the content: it must not outlive the bytes in a power failure.
    await sink.sync()
  } finally {
    await sink.close()
  }
  if (hash === file.etag) {
    await rename(partial, cache.blob(file.etag))
    return undefined
  }
  await unlink(partial).catch(() => {})
  // What an earlier process left may have been bad; what came just now is the server's own.
  return resumed ? fetch_blob(task) : integrity_error(subject, 'hash', file.etag, hash)
}

/** Bytes written so far, hashed on the way. The file is kept when anything fails. */
class PartialFile implements Sink {
  readonly #handle: FileHandle
  readonly #file: RemoteFile
  #hash: Hash
  #size: number

  private constructor(handle: FileHandle, file: RemoteFile, hash: Hash, size: number) {
    this.#handle = handle
    this.#file = file
    this.#hash = hash
    this.#size = size
  }

  static async open(path: string, file: RemoteFile, signal: AbortSignal | undefined): Promise<PartialFile> {
    // Neither truncated nor appended to: should the lock have failed, two writers put the same bytes at the same places.
    const handle = await open(path, 'r+').catch(() => open(path, 'w+'))
    try {
      const { size } = await handle.stat()
      const usable = size <= file.size ? size : 0
      if (usable < size) await handle.truncate(0)
      const hash = await hash_file(hash_for(file.etag, file.size), path, usable, signal)
      return new PartialFile(handle, file, hash, usable)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  get size(): number {
    return this.#size
  }

  async write(chunk: Uint8Array): Promise<void> {
    let written = 0
    while (written < chunk.length) {
      const part = await this.#handle.write(chunk, written, chunk.length - written, this.#size + written)
      written += part.bytesWritten
    }
    this.#hash.update(chunk)
    this.#size += chunk.length
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#hash = hash_for(this.#file.etag, this.#file.size)
    this.#size = 0
  }

  digest(): string {
    return this.#hash.digest('hex')
  }

  sync(): Promise<void> {
    return this.#handle.sync()
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

async function check_free_space(partial: string, size: number): Promise<void> {
  const there = (await file_size(partial)) ?? 0
  // Some file systems cannot tell.
  const volume = await statfs(dirname(partial)).catch(() => undefined)
  const free = volume ? volume.bavail * volume.bsize : Number.POSITIVE_INFINITY
  if (!volume || volume.blocks === 0 || free >= size - there) return
  const message = `${size - there} bytes are needed in ${dirname(partial)}, and ${free} are free. Make room, or choose another cache with "cache_dir" or HF_HOME.`
  throw new FileError('FILE_READ', message, { details: { needed: size - there, free } })
}

function is_system_error(error: unknown): boolean {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string'
}
