/**
 * A store in a folder of the file system. Node only.
 *
 * A folder is written under a name that no reader looks for, forced to the disk file by file, and renamed; it is removed
 * by being renamed first. So what is killed at any moment leaves whole folders and rubbish, which `tidy` clears away.
 */

import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import type { Source } from '../../backend/contract.js'
import { FileError, SwitchTransformersError } from '../../errors.js'
import type { StoredFile, TrainingStore } from './store.js'

const TEMPORARY = /^\..*\.tmp$/

export class FolderStore implements TrainingStore {
  readonly location: string

  constructor(folder: string) {
    this.location = path.resolve(folder)
  }

  async folders(): Promise<string[]> {
    return (await this.#entries()).filter((entry) => entry.isDirectory()).flatMap(({ name }) => visible(name))
  }

  async write_folder(name: string, files: AsyncIterable<StoredFile> | Iterable<StoredFile>): Promise<void> {
    await this.#attempt(name, async () => {
      const temporary = this.#path(temporary_name(name))
      try {
        await mkdir(temporary, { recursive: true })
        for await (const file of files) await write_file(path.join(temporary, file.name), file.chunks)
        await force_folder(temporary)
        const replaced = await this.#set_aside(name)
        await rename(temporary, this.#path(name))
        await force_folder(this.location)
        if (replaced !== null) await rm(replaced, { recursive: true, force: true })
      } catch (error) {
        await rm(temporary, { recursive: true, force: true }).catch(() => {})
        throw error
      }
    })
  }

  async remove_folder(name: string): Promise<void> {
    await this.#attempt(name, async () => {
      const removed = await this.#set_aside(name)
      if (removed !== null) await rm(removed, { recursive: true, force: true })
    })
  }

  async files(folder?: string): Promise<{ name: string; size: number }[]> {
    const names = (await this.#entries(folder)).filter((entry) => entry.isFile()).flatMap(({ name }) => visible(name))
    return Promise.all(names.map(async (name) => ({ name, size: (await stat(this.#path(folder ?? '.', name))).size })))
  }

  async read(name: string, folder?: string): Promise<Uint8Array | null> {
    const file = this.#path(folder ?? '.', name)
    try {
      return await readFile(file)
    } catch (error) {
      if (code_of(error) === 'ENOENT') return null
      throw file_error(file, 'read', error)
    }
  }

  async source(name: string, folder?: string): Promise<Source | null> {
    const file = this.#path(folder ?? '.', name)
    try {
      return { name, size: (await stat(file)).size, path: file }
    } catch (error) {
      if (code_of(error) === 'ENOENT') return null
      throw file_error(file, 'read', error)
    }
  }

  async write(name: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    await this.#attempt(name, async () => {
      await mkdir(this.location, { recursive: true })
      const temporary = this.#path(temporary_name(name))
      try {
        await write_file(temporary, chunks)
        await rename(temporary, this.#path(name))
      } catch (error) {
        await rm(temporary, { force: true }).catch(() => {})
        throw error
      }
    })
  }

  async append(name: string, text: string): Promise<void> {
    await this.#attempt(name, async () => {
      await mkdir(this.location, { recursive: true })
      const file = await open(this.#path(name), 'a')
      try {
        await file.writeFile(text)
      } finally {
        await file.close()
      }
    })
  }

  async remove(name: string): Promise<void> {
    await this.#attempt(name, () => rm(this.#path(name), { force: true }))
  }

  async tidy(): Promise<void> {
    for (const { name } of await this.#entries()) {
      if (TEMPORARY.test(name)) await rm(this.#path(name), { recursive: true, force: true }).catch(() => {})
    }
  }

  #path(...parts: string[]): string {
    return path.join(this.location, ...parts)
  }

  /** Gives a folder a name that no reader looks for; null where there is none. */
  async #set_aside(name: string): Promise<string | null> {
    const temporary = this.#path(temporary_name(name))
    try {
      await rename(this.#path(name), temporary)
      return temporary
    } catch (error) {
      if (code_of(error) === 'ENOENT') return null
      throw error
    }
  }

  async #entries(folder = '.') {
    try {
      return await readdir(this.#path(folder), { withFileTypes: true })
    } catch (error) {
      if (code_of(error) === 'ENOENT') return []
      throw file_error(this.#path(folder), 'read', error)
    }
  }

  async #attempt<T>(name: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      throw file_error(this.#path(name), 'written', error)
    }
  }
}

function temporary_name(name: string): string {
  return `.${name}.${randomUUID()}.tmp`
}

function visible(name: string): string[] {
  return TEMPORARY.test(name) ? [] : [name]
}

async function write_file(file: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
  const handle = await open(file, 'wx')
  try {
    for await (const chunk of chunks) await handle.writeFile(chunk)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder's list of names durable. Windows has no such call and needs none. */
async function force_folder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function code_of(error: unknown): unknown {
  return (error as NodeJS.ErrnoException).code
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'files may not be that large here',
  EACCES: 'this user may not write there',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'a part of the path is a file',
}

function file_error(file: string, what: string, error: unknown): SwitchTransformersError {
  if (error instanceof SwitchTransformersError) return error
  const code = code_of(error)
  const reason = REASONS[String(code)] ?? (error instanceof Error ? error.message : String(error))
  return new FileError('FILE_READ', `${file} cannot be ${what}: ${reason}.`, {
    cause: error,
    details: { path: file, reason: code ?? 'unknown' },
  })
}
