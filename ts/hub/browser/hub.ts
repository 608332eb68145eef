/** Everything about names, hubs and the cache, as one chunk of its own. */

import { check_repository_name, check_revision } from '../repository_names.js'
import type { RequestSettings } from '../request.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { private_folder, StoredRepository } from './private_folder.js'
import { web_remote } from './remote.js'
import { BrowserRepository } from './repository.js'
import { clear_stored as clear, Store } from './store.js'

export { list_stored } from './store.js'

/** A folder of the origin private file system, as a training writes, or else a repository of the hub. */
export async function open_named(
  name: string,
  settings: RequestSettings,
  options: RepositoryOptions,
): Promise<Repository> {
  const folder = await private_folder(name)
  if (folder !== null) return StoredRepository.open(name, folder, options)
  check_repository_name(name)
  if (options.revision !== undefined) check_revision(options.revision)
  const remote = web_remote(settings, name, options.revision ?? 'main')
  return BrowserRepository.open(name, remote, new Store(settings.endpoint), settings, options)
}

export async function clear_stored(name: string): Promise<number> {
  check_repository_name(name)
  return clear(name)
}
