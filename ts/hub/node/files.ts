/** Small helpers over `node:fs`, with typed errors. */

import { closeSync, openSync, readSync } from 'node:fs'
import { mkdir, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Source } from '../../backend/contract.js'
import { DisposedError, FileError, InputError, SwitchTransformersError } from '../../errors.js'

/** `read` is for configs, vocabularies and indices: the largest of the last kind known is 6 MB. */
export const MAX_READ_BYTES = 256 * 1024 * 1024

export function has_code(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes(String((error as NodeJS.ErrnoException).code))
}

/** Whether the error says that there is no such file. */
export function is_missing(error: unknown): boolean {
  return has_code(error, 'ENOENT', 'ENOTDIR')
}

/** An error of the file system as one of ours. */
export function file_error(cause: unknown, path: string, doing: 'read' | 'written'): SwitchTransformersError {
  if (cause instanceof SwitchTransformersError) return cause
  const hint =
    doing === 'read'
      ? 'Check its permissions.'
      : 'Check permissions and free space, or choose another cache with "cache_dir" or HF_HOME.'
  const message = `${path} cannot be ${doing}: ${cause instanceof Error ? cause.message : String(cause)}. ${hint}`
  return new FileError('FILE_READ', message, { cause, details: { path } })
}

/** Size of a regular file, links followed; null when there is none. */
export async function file_size(path: string): Promise<number | null> {
  try {
    const found = await stat(path)
    return found.isFile() ? found.size : null
  } catch (error) {
    if (is_missing(error)) return null
    throw file_error(error, path, 'read')
  }
}

export async function is_directory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

export function check_readable_size(size: number, file: string): void {
  if (size <= MAX_READ_BYTES) return
  throw new InputError(`${file} has ${size} bytes, too many to be read at once (${MAX_READ_BYTES}).`)
}

/** Writes a small file so that readers see the old or the new content, never a part. */
export async function write_atomically(path: string, content: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.${Math.random().toString(36).slice(2)}`)
  await mkdir(dirname(path), { recursive: true })
  try {
    await writeFile(temporary, content)
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
}

/** Sources over files on disk, and the descriptors that they opened. */
export class OpenFiles {
  readonly #descriptors = new Map<string, number>()
  #closed = false

  source(name: string, path: string, size: number): Source {
    return { name, path, size, read: (offset, into) => this.#read(path, offset, into) }
  }

  close(): void {
    this.#closed = true
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor)
    this.#descriptors.clear()
  }

  #read(path: string, offset: number, into: Uint8Array): void {
    if (this.#closed) throw new DisposedError(`${path} was closed with its repository.`)
    try {
      let descriptor = this.#descriptors.get(path)
      if (descriptor === undefined) {
        descriptor = openSync(path, 'r')
        this.#descriptors.set(path, descriptor)
      }
      let filled = 0
      while (filled < into.length) {
        const count = readSync(descriptor, into, filled, into.length - filled, offset + filled)
        if (count === 0) {
          const message = `${path} ends before byte ${offset + into.length}. It was cut short while in use.`
          throw new FileError('FILE_READ', message, { details: { path, offset, length: into.length } })
        }
        filled += count
      }
    } catch (error) {
      throw file_error(error, path, 'read')
    }
  }
}
