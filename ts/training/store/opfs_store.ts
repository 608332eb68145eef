/**
 * A store in a browser's origin private file system. A file appears there when its writer is closed, so each is whole or
 * not there; a folder counts as complete when its list of files, which is written last, is there.
 */

import type { Source } from '../../backend/contract.js'
import { FileError, InputError, SwitchTransformersError } from '../../errors.js'
import { show } from '../../utils/json.js'
import type { StoredFile, TrainingStore } from './store.js'

const COMPLETE = '.complete'

export class OpfsStore implements TrainingStore {
  readonly location: string
  readonly #root: FileSystemDirectoryHandle

  private constructor(location: string, root: FileSystemDirectoryHandle) {
    this.location = location
    this.#root = root
  }

  /** The folder of that path (`opfs:` in front or not), made where it is missing. */
  static async open(path: string): Promise<OpfsStore> {
    const parts = path
      .replace(/^opfs:/, '')
      .split('/')
      .filter((part) => part !== '' && part !== '.')
    if (parts.length === 0 || parts.includes('..')) {
      throw new InputError(`output_dir names a folder of the origin private file system, not ${show(path)}.`)
    }
    return attempt(`/${parts.join('/')}`, async () => {
      let folder = await navigator.storage.getDirectory()
      for (const part of parts) folder = await folder.getDirectoryHandle(part, { create: true })
      return new OpfsStore(`/${parts.join('/')}`, folder)
    })
  }

  /** The files in a folder, none where there is no such folder. */
  static async files_at(path: string): Promise<File[]> {
    const files: File[] = []
    try {
      let folder = await navigator.storage.getDirectory()
      const parts = path.replace(/^opfs:/, '').split('/')
      for (const part of parts.filter((each) => each !== '' && each !== '.'))
        folder = await folder.getDirectoryHandle(part)
      for await (const [name, handle] of folder.entries()) {
        if (handle.kind === 'file' && name !== COMPLETE) files.push(await (handle as FileSystemFileHandle).getFile())
      }
    } catch {
      // No such folder, or no such file system here.
    }
    return files
  }

  async folders(): Promise<string[]> {
    const names: string[] = []
    for await (const [name, handle] of this.#root.entries()) {
      if (handle.kind === 'directory' && (await file_in(handle as FileSystemDirectoryHandle, COMPLETE)) !== null) {
        names.push(name)
      }
    }
    return names
  }

  async write_folder(name: string, files: AsyncIterable<StoredFile> | Iterable<StoredFile>): Promise<void> {
    await this.remove_folder(name)
    await attempt(`${this.location}/${name}`, async () => {
      const folder = await this.#root.getDirectoryHandle(name, { create: true })
      for await (const file of files) await write_into(folder, file.name, file.chunks)
      await write_into(folder, COMPLETE, [new Uint8Array([49])])
    })
  }

  async remove_folder(name: string): Promise<void> {
    const folder = await this.#folder(name)
    if (folder === null) return
    await attempt(`${this.location}/${name}`, async () => {
      // First what makes it complete, so that no half of it is ever taken for a checkpoint.
      await folder.removeEntry(COMPLETE).catch(() => {})
      await this.#root.removeEntry(name, { recursive: true })
    })
  }

  async files(folder?: string): Promise<{ name: string; size: number }[]> {
    const place = folder === undefined ? this.#root : await this.#folder(folder)
    const list: { name: string; size: number }[] = []
    if (place === null) return list
    for await (const [name, handle] of place.entries()) {
      if (handle.kind !== 'file' || name === COMPLETE) continue
      list.push({ name, size: (await (handle as FileSystemFileHandle).getFile()).size })
    }
    return list
  }

  async read(name: string, folder?: string): Promise<Uint8Array | null> {
    const file = await this.#file(name, folder)
    return file === null ? null : new Uint8Array(await file.arrayBuffer())
  }

  async source(name: string, folder?: string): Promise<Source | null> {
    const file = await this.#file(name, folder)
    return file === null ? null : { name, size: file.size, blob: file }
  }

  async write(name: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    await attempt(`${this.location}/${name}`, () => write_into(this.#root, name, chunks))
  }

  async append(name: string, text: string): Promise<void> {
    await attempt(`${this.location}/${name}`, async () => {
      const handle = await this.#root.getFileHandle(name, { create: true })
      const { size } = await handle.getFile()
      const writer = await handle.createWritable({ keepExistingData: true })
      await writer.write({ type: 'write', position: size, data: text })
      await writer.close()
    })
  }

  async remove(name: string): Promise<void> {
    await this.#root.removeEntry(name).catch(() => {})
  }

  async tidy(): Promise<void> {
    const complete = new Set(await this.folders())
    for await (const [name, handle] of this.#root.entries()) {
      if (handle.kind === 'directory' && /^checkpoint-\d+$/.test(name) && !complete.has(name)) {
        await this.#root.removeEntry(name, { recursive: true }).catch(() => {})
      }
    }
  }

  async #folder(name: string): Promise<FileSystemDirectoryHandle | null> {
    return this.#root.getDirectoryHandle(name).catch(() => null)
  }

  async #file(name: string, folder: string | undefined): Promise<File | null> {
    const place = folder === undefined ? this.#root : await this.#folder(folder)
    return place === null ? null : file_in(place, name)
  }
}

async function file_in(folder: FileSystemDirectoryHandle, name: string): Promise<File | null> {
  try {
    return await (await folder.getFileHandle(name)).getFile()
  } catch {
    return null
  }
}

async function write_into(
  folder: FileSystemDirectoryHandle,
  name: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  const writer = await (await folder.getFileHandle(name, { create: true })).createWritable()
  try {
    for await (const chunk of chunks) await writer.write(chunk as Uint8Array<ArrayBuffer>)
  } catch (error) {
    await writer.abort().catch(() => {})
    throw error
  }
  await writer.close()
}

async function attempt<T>(path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof SwitchTransformersError) throw error
    const full = (error as { name?: string }).name === 'QuotaExceededError'
    const reason = full ? 'the origin has no more room' : error instanceof Error ? error.message : String(error)
    throw new FileError('FILE_READ', `${path} cannot be written: ${reason}.`, {
      cause: error,
      details: { path, reason: full ? 'ENOSPC' : 'unknown' },
    })
  }
}
