/** Model files: a folder, or a repository of a hub and its cache. */

import { env } from '../env.js'
import { InputError, throw_if_aborted } from '../errors.js'
import { quote } from './names.js'
import { get_platform } from './platform.js'
import type { CachedRepository, CacheOptions, Repository, RepositoryOptions } from './types.js'

export { type HubPlatform, set_platform } from './platform.js'
export type { FileProgress, ProgressCallback, ProgressEvent } from './progress.js'
export type {
  CachedFile,
  CachedRepository,
  CachedRevision,
  CacheOptions,
  Repository,
  RepositoryOptions,
} from './types.js'
export { type WeightsFiles, type WeightsOptions, weights_files } from './weights.js'

/**
 * Opens a folder (an absolute path, one that begins with `./`, `../` or `~`, a `file:` URL, or any folder of that name)
 * or else the hub repository of that name.
 *
 * Throws INVALID_INPUT (no such name is possible), FILE_NOT_FOUND (no such folder), HUB_NOT_FOUND (no such repository or
 * revision), HUB_UNAUTHORIZED, HUB_OFFLINE, HUB_NETWORK or ABORTED.
 */
export async function open_repository(name_or_path: string, options: RepositoryOptions = {}): Promise<Repository> {
  if (typeof name_or_path !== 'string' || name_or_path.trim() === '') {
    throw new InputError(`A model is named by a folder or by owner/name, not by ${quote(String(name_or_path))}.`)
  }
  throw_if_aborted(options.signal)
  return get_platform().open_repository(name_or_path, with_settings(options))
}

/** The bytes of a file that must be there. Throws FILE_NOT_FOUND, HUB_NOT_FOUND or HUB_OFFLINE where it is not. */
export async function required_file(repository: Repository, file: string): Promise<Uint8Array> {
  const bytes = await repository.read(file)
  if (bytes === null) throw await repository.absent(file)
  return bytes
}

/** What the cache holds, Python's downloads included, sorted by name. */
export async function list_cached(options: CacheOptions = {}): Promise<CachedRepository[]> {
  return get_platform().list_cached(with_settings(options))
}

/** Removes every revision of a repository from the cache and returns the bytes freed: 0 when it was not there. */
export async function clear_cached(name: string, options: CacheOptions = {}): Promise<number> {
  return get_platform().clear_cached(name, with_settings(options))
}

/** The options of a call, with `env` where it says nothing. */
function with_settings(options: RepositoryOptions): RepositoryOptions {
  const { allowRemoteModels, cacheDir, fetch, remoteHost } = env
  return {
    ...(remoteHost !== null && { endpoint: remoteHost }),
    ...(cacheDir !== null && { cache_dir: cacheDir }),
    ...(fetch !== null && { fetch }),
    ...(!allowRemoteModels && { local_files_only: true }),
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
  }
}
