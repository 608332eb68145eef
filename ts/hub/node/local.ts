/** A folder on disk as a repository. */

import { readdir, readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Source } from '../../backend/contract.js'
import { FileError, InputError, type SwitchTransformersError } from '../../errors.js'
import { check_file_name, quote } from '../names.js'
import { Progress } from '../progress.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { expand } from './environment.js'
import { check_readable_size, file_error, file_size, is_directory, is_missing, OpenFiles } from './files.js'

const MAX_DEPTH = 3
const MAX_LISTED_FILES = 10_000

/**
 * The folder that `name_or_path` means, or null where it can only be the name of a repository. Whatever is written as a
 * path must be one; a name that is also a folder in the working directory is that folder, as in the reference.
 */
export async function local_folder(name_or_path: string): Promise<string | null> {
  const path = as_path(name_or_path)
  if (await is_directory(path)) return path
  if (!is_written_as_path(name_or_path)) return null
  const found = await stat(path).catch(() => null)
  const message = found
    ? `${path} is a file. Give the folder that holds config.json and the weights.`
    : `There is no folder ${path}. Check the path; a repository of the hub is named owner/name.`
  throw new FileError('FILE_NOT_FOUND', message, { details: { path } })
}

function is_written_as_path(name: string): boolean {
  return /^(?:[/\\~]|\.{1,2}(?:[/\\]|$)|[A-Za-z]:[/\\]|file:)/.test(name)
}

function as_path(name: string): string {
  if (!name.startsWith('file:')) return resolve(/^~(?:$|[/\\])/.test(name) ? expand(name) : name)
  try {
    return fileURLToPath(name)
  } catch (cause) {
    throw new InputError(`${quote(name)} is not the address of a folder on this machine.`, { cause })
  }
}

export class LocalRepository implements Repository {
  readonly name: string
  readonly #folder: string
  readonly #progress: Progress
  readonly #open = new OpenFiles()

  constructor(name: string, folder: string, options: RepositoryOptions) {
    this.name = name
    this.#folder = options.subfolder ? resolve(folder, options.subfolder) : folder
    this.#progress = new Progress(name, options.progress_callback)
  }

  async list(): Promise<string[]> {
    const found: string[] = []
    const visit = async (folder: string, prefix: string, depth: number): Promise<void> => {
      const entries = await readdir(folder, { withFileTypes: true }).catch((error) => {
        if (is_missing(error)) return []
        throw file_error(error, folder, 'read')
      })
      for (const entry of entries) {
        if (found.length >= MAX_LISTED_FILES || entry.name.startsWith('.')) continue
        const path = resolve(folder, entry.name)
        if (entry.isDirectory()) {
          if (depth < MAX_DEPTH && entry.name !== 'node_modules')
            await visit(path, `${prefix}${entry.name}/`, depth + 1)
        } else if (entry.isFile() || (await stat(path).catch(() => null))?.isFile()) {
          found.push(prefix + entry.name)
        }
      }
    }
    await visit(this.#folder, '', 1)
    return found.sort()
  }

  async has(file: string): Promise<boolean> {
    return (await this.#find(file)) !== null
  }

  async read(file: string): Promise<Uint8Array | null> {
    const found = await this.#find(file)
    if (found === null) return null
    check_readable_size(found.size, found.path)
    const bytes = await readFile(found.path).catch((error) => {
      throw file_error(error, found.path, 'read')
    })
    this.#tell(file, found.size)
    return bytes
  }

  async source(file: string): Promise<Source | null> {
    const found = await this.#find(file)
    if (found === null) return null
    this.#tell(file, found.size)
    return this.#open.source(file, found.path, found.size)
  }

  async prefetch(files: readonly string[]): Promise<void> {
    for (const file of files) {
      const found = await this.#find(file)
      if (found) this.#progress.expect(file, found.size)
    }
  }

  async absent(file: string): Promise<SwitchTransformersError> {
    const files = await this.list()
    const there = files.length === 0 ? 'The folder is empty or missing' : `It has ${some(files)}`
    const message = `There is no ${file} in ${this.#folder}. ${there}.`
    return new FileError('FILE_NOT_FOUND', message, {
      details: { file, folder: this.#folder, files: files.slice(0, 100) },
    })
  }

  close(): void {
    this.#open.close()
  }

  async #find(file: string): Promise<{ path: string; size: number } | null> {
    check_file_name(file)
    const path = resolve(this.#folder, file)
    const size = await file_size(path)
    return size === null ? null : { path, size }
  }

  #tell(file: string, size: number): void {
    this.#progress.initiate(file)
    this.#progress.advance(file, size, size)
    this.#progress.done(file)
  }
}

/** For messages: the first few of many names. */
export function some(names: readonly string[]): string {
  const shown = names.slice(0, 12).join(', ')
  return names.length > 12 ? `${shown} and ${names.length - 12} more` : shown
}
