/** Hub access in Node: folders, and the cache that Python's hub client shares. Registered by the Node entry. */

import { check_file_name } from './names.js'
import { cache_directory, hub_settings } from './node/environment.js'
import { LocalRepository, local_folder } from './node/local.js'
import { clear_cached, list_cached } from './node/registry.js'
import { open_hub_repository } from './node/repository.js'
import type { HubPlatform } from './platform.js'
import { check_repository_name, check_revision } from './repository_names.js'

export const node_platform: HubPlatform = {
  async open_repository(name_or_path, options) {
    const subfolder = options.subfolder?.replace(/^\.\/|\/+$/g, '') || undefined
    if (subfolder !== undefined) check_file_name(subfolder, 'subfolder')
    const given = { ...options, subfolder }
    const folder = await local_folder(name_or_path)
    if (folder !== null) return new LocalRepository(name_or_path, folder, given)

    check_repository_name(name_or_path)
    if (options.revision !== undefined) check_revision(options.revision)
    return open_hub_repository(name_or_path, given, hub_settings(options), async (settings, name, revision) => {
      // Loaded late: most runs find everything in the cache or a folder.
      const { hub_remote } = await import('./node/remote.js')
      return hub_remote(settings, name, revision)
    })
  },

  list_cached: (options) => list_cached(cache_directory(options.cache_dir)),
  clear_cached: (name, options) => clear_cached(cache_directory(options.cache_dir), name),
}
