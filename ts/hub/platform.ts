/** Where files come from and are kept on this platform. The package's entry registers one. */

import { InternalError } from '../errors.js'
import type { CachedRepository, CacheOptions, Repository, RepositoryOptions } from './types.js'

export interface HubPlatform {
  open_repository(name_or_path: string, options: RepositoryOptions): Promise<Repository>
  list_cached(options: CacheOptions): Promise<CachedRepository[]>
  /** Bytes freed. */
  clear_cached(name: string, options: CacheOptions): Promise<number>
}

let current: HubPlatform | undefined

/** Registers the platform. Called once by the entry for Node or for browsers. */
export function set_platform(platform: HubPlatform): void {
  current = platform
}

export function get_platform(): HubPlatform {
  if (!current) throw new InternalError('No hub platform is registered. Import the package by its name, not by a file.')
  return current
}
