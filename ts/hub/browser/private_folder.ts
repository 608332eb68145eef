/** A folder of the origin private file system as a repository: what `Trainer` and `save_pretrained` write in a browser. */

import type { Source } from '../../backend/contract.js'
import { FileError, InputError, type SwitchTransformersError } from '../../errors.js'
import { check_file_name, is_file_name, quote } from '../names.js'
import { Progress } from '../progress.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { blob_source } from './blobs.js'

const MAX_READ_BYTES = 256 * 1024 * 1024
/** Says that a name is such a folder and nothing else. */
const SCHEME = 'opfs:'

/**
 * The folder that a name means: any written as `opfs:models/mine`, which must be there, and any other name of a folder with
 * a model or an adapter in it. Null where there is none.
 */
export async function private_folder(name: string): Promise<FileSystemDirectoryHandle | null> {
  const demanded = name.startsWith(SCHEME)
  const path = demanded ? name.slice(SCHEME.length).replace(/^\/+|\/+$/g, '') : name
  if (!is_file_name(path)) {
    if (!demanded) return null
    throw new InputError(`${quote(name)} is not the path of a folder in the origin private file system.`)
  }
  const folder = await folder_at(path)
  if (demanded) {
    if (folder !== null) return folder
    throw new FileError('FILE_NOT_FOUND', `There is no folder ${path} in the origin private file system.`, {
      details: { path },
    })
  }
  if (folder === null) return null
  const model = (await file_in(folder, 'config.json')) ?? (await file_in(folder, 'adapter_config.json'))
  return model === null ? null : folder
}

async function folder_at(path: string): Promise<FileSystemDirectoryHandle | null> {
  try {
    let folder = await navigator.storage.getDirectory()
    for (const part of path.split('/')) folder = await folder.getDirectoryHandle(part)
    return folder
  } catch {
    // Not there, or no such file system in this page.
    return null
  }
}

async function file_in(folder: FileSystemDirectoryHandle, file: string): Promise<File | null> {
  try {
    let place = folder
    const parts = file.split('/')
    for (const part of parts.slice(0, -1)) place = await place.getDirectoryHandle(part)
    return await (await place.getFileHandle(parts.at(-1) as string)).getFile()
  } catch {
    return null
  }
}

export class StoredRepository implements Repository {
  readonly name: string
  readonly #folder: FileSystemDirectoryHandle
  readonly #progress: Progress
  #closed = false

  private constructor(name: string, folder: FileSystemDirectoryHandle, options: RepositoryOptions) {
    this.name = name
    this.#folder = folder
    this.#progress = new Progress(name, options.progress_callback)
  }

  static async open(
    name: string,
    folder: FileSystemDirectoryHandle,
    options: RepositoryOptions,
  ): Promise<StoredRepository> {
    let place = folder
    for (const part of options.subfolder?.split('/') ?? []) {
      place = await place.getDirectoryHandle(part).catch((cause: unknown) => {
        throw new FileError('FILE_NOT_FOUND', `${name} has no folder ${options.subfolder}.`, { cause })
      })
    }
    return new StoredRepository(name, place, options)
  }

  async list(): Promise<string[]> {
    const names: string[] = []
    for await (const [name, { kind }] of this.#folder.entries()) {
      if (kind === 'file' && !name.startsWith('.')) names.push(name)
    }
    return names.sort()
  }

  async has(file: string): Promise<boolean> {
    check_file_name(file)
    return (await file_in(this.#folder, file)) !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    const blob = await this.#file(file)
    if (blob === null) return null
    if (blob.size > MAX_READ_BYTES) {
      throw new InputError(`${file} has ${blob.size} bytes, too many to be read at once.`)
    }
    return new Uint8Array(await blob.arrayBuffer())
  }

  async source(file: string): Promise<Source | null> {
    const blob = await this.#file(file)
    return blob && blob_source(file, blob, () => this.#closed)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    for (const file of files) {
      const blob = await file_in(this.#folder, file)
      if (blob) this.#progress.expect(file, blob.size)
    }
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    const files = await this.list()
    const there = files.length === 0 ? 'The folder is empty' : `It has ${files.slice(0, 12).join(', ')}`
    const message = `There is no ${file} in ${this.name}, a folder of the origin private file system. ${there}.`
    return new FileError('FILE_NOT_FOUND', message, { details: { file, folder: this.name, files } })
  }

  close(): void {
    this.#closed = true
  }

  async #file(file: string): Promise<File | null> {
    check_file_name(file)
    const blob = await file_in(this.#folder, file)
    if (blob === null) return null
    this.#progress.initiate(file)
    this.#progress.advance(file, blob.size, blob.size)
    this.#progress.done(file)
    return blob
  }
}
