/**
 * The cache folder of one repository, laid out as Python's `huggingface_hub` does, so that both share files:
 *
 *   models--owner--name/refs/main                  the commit that the branch was at when it was last looked up
 *   models--owner--name/snapshots/COMMIT/FILE      a link to the blob
 *   models--owner--name/blobs/ETAG                 the content, named by its hash
 *
 * Beside these, in a folder that Python does not look into, are facts that are ours:
 *
 *   models--owner--name/.switch-transformers/COMMIT.json       the hub's listing of that commit, which cannot change
 *   models--owner--name/.switch-transformers/verified/ETAG     size and time of the blob when its hash was checked
 */

import { constants } from 'node:fs'
import {
  access,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  stat,
  symlink,
  unlink,
} from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { is_file_name } from '../names.js'
import { COMMIT, is_etag } from '../repository_names.js'
import type { RemoteFile } from '../types.js'
import { hash_file, hash_for } from './digest.js'
import { is_true } from './environment.js'
import { file_error, file_size, is_directory, is_missing, write_atomically } from './files.js'

export const REPOSITORY_PREFIX = 'models--'
const OWN_FOLDER = '.switch-transformers'
const MAX_LISTED_FILES = 100_000

export function repository_folder(cache_dir: string, name: string): string {
  return join(cache_dir, REPOSITORY_PREFIX + name.split('/').join('--'))
}

export function lock_folder(cache_dir: string, name: string): string {
  return join(cache_dir, '.locks', REPOSITORY_PREFIX + name.split('/').join('--'))
}

export class RepositoryCache {
  readonly folder: string
  readonly #locks: string

  constructor(cache_dir: string, name: string) {
    this.folder = repository_folder(cache_dir, name)
    this.#locks = lock_folder(cache_dir, name)
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag)
  }

  /** Python names its own unfinished files otherwise and never shares them; it clears all that end like this. */
  partial(etag: string): string {
    return join(this.folder, 'blobs', `${etag}.resume.incomplete`)
  }

  lock(etag: string): string {
    return join(this.#locks, `${etag}.owner`)
  }

  pointer(commit: string, file: string): string {
    return join(this.folder, 'snapshots', commit, ...file.split('/'))
  }

  /** The commit that a revision was at when it was last looked up; null when the cache has none of its files. */
  async commit(revision: string): Promise<string | null> {
    if (COMMIT.test(revision)) return (await is_directory(join(this.folder, 'snapshots', revision))) ? revision : null
    try {
      const commit = (await readFile(this.#ref(revision), 'utf8')).trim()
      return COMMIT.test(commit) ? commit : null
    } catch (error) {
      if (is_missing(error) || (error as NodeJS.ErrnoException).code === 'EISDIR') return null
      throw file_error(error, this.#ref(revision), 'read')
    }
  }

  /** A cache that cannot be written is still good to read from: that is noticed where a file must be added. */
  async remember_commit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commit(revision).catch(() => null)) === commit) return
    await write_atomically(this.#ref(revision), commit).catch(() => {})
  }

  async listing(commit: string): Promise<RemoteFile[] | null> {
    try {
      const files: unknown = JSON.parse(await readFile(this.#listing(commit), 'utf8'))
      return Array.isArray(files) && files.every(is_remote_file) ? files : null
    } catch {
      // Not there, or not ours: the hub will be asked.
      return null
    }
  }

  async remember_listing(commit: string, files: RemoteFile[]): Promise<void> {
    await write_atomically(this.#listing(commit), JSON.stringify(files)).catch(() => {})
  }

  /** Names of the files that are in the cache for a commit. */
  async cached_files(commit: string): Promise<string[]> {
    const root = join(this.folder, 'snapshots', commit)
    const found: string[] = []
    const visit = async (folder: string, prefix: string): Promise<void> => {
      const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
      for (const entry of entries) {
        const name = prefix + entry.name
        if (entry.isDirectory()) await visit(join(folder, entry.name), `${name}/`)
        else if (found.length < MAX_LISTED_FILES && (await file_size(join(folder, entry.name))) !== null)
          found.push(name)
      }
    }
    await visit(root, '')
    return found.sort()
  }

  /** The name of a cached file's content; null where it is not a link, as on systems without links. */
  async etag(commit: string, file: string): Promise<string | null> {
    // Only one step: where Python shares blobs between repositories, the blob is itself a link to another name.
    const target = await readlink(this.pointer(commit, file)).catch(() => '')
    const name = basename(target)
    return is_etag(name) ? name : null
  }

  /**
   * The actual hash of a cached file where it is not the expected one, else null. Large files are hashed once: the next
   * time, size and modification time say that nobody touched them.
   */
  async wrong_hash(path: string, etag: string, signal?: AbortSignal): Promise<string | null> {
    const found = await stat(path)
    const state = `${found.size} ${found.mtimeMs}`
    const known = await readFile(this.#verified(etag), 'utf8').catch(() => '')
    if (known === state) return null
    const hash = (await hash_file(hash_for(etag, found.size), path, found.size, signal)).digest('hex')
    if (hash !== etag) return hash
    await this.mark_verified(path, etag)
    return null
  }

  async mark_verified(path: string, etag: string): Promise<void> {
    const found = await stat(path)
    await write_atomically(this.#verified(etag), `${found.size} ${found.mtimeMs}`).catch(() => {})
  }

  /** Whether a file could be replaced here. A cache that nobody can write to is taken as it is. */
  async is_writable(): Promise<boolean> {
    return access(this.folder, constants.W_OK).then(
      () => true,
      () => false,
    )
  }

  /** Makes a blob appear under a file's name: as a link where possible. */
  async point(commit: string, file: string, etag: string): Promise<string> {
    const pointer = this.pointer(commit, file)
    const blob = this.blob(etag)
    await mkdir(dirname(pointer), { recursive: true })
    // Made beside and renamed, so that no other process sees the name without a file.
    const temporary = `${pointer}.${process.pid}.${Math.random().toString(36).slice(2)}`
    try {
      await link_or_copy(blob, temporary, pointer)
      await rename(temporary, pointer)
    } catch (error) {
      await unlink(temporary).catch(() => {})
      throw error
    }
    return pointer
  }

  /** Removes a file that was found to be bad, with its content. */
  async discard(commit: string, file: string, etag: string | null): Promise<void> {
    await unlink(this.pointer(commit, file)).catch(() => {})
    if (etag === null) return
    await unlink(this.blob(etag)).catch(() => {})
    await unlink(this.#verified(etag)).catch(() => {})
  }

  #ref(revision: string): string {
    return join(this.folder, 'refs', ...revision.split('/'))
  }

  #listing(commit: string): string {
    return join(this.folder, OWN_FOLDER, `${commit}.json`)
  }

  #verified(etag: string): string {
    return join(this.folder, OWN_FOLDER, 'verified', etag)
  }
}

/** Windows lets few users make symbolic links; hard links need no right, but one volume; a copy always works. */
async function link_or_copy(blob: string, path: string, final_path: string): Promise<void> {
  try {
    if (!is_true(process.env.HF_HUB_DISABLE_SYMLINKS)) return await symlink(relative(dirname(final_path), blob), path)
  } catch {
    // Not permitted here.
  }
  try {
    await link(blob, path)
  } catch {
    await copyFile(blob, path)
  }
}

export function is_remote_file(value: unknown): value is RemoteFile {
  const file = value as Partial<RemoteFile> | null
  return (
    typeof file?.path === 'string' &&
    is_file_name(file.path) &&
    typeof file.size === 'number' &&
    Number.isSafeInteger(file.size) &&
    file.size >= 0 &&
    typeof file.etag === 'string' &&
    is_etag(file.etag)
  )
}
