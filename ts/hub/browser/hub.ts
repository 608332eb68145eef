/** Everything about hubs and the cache, as one chunk of its own. */

import type { RequestSettings } from '../request.js'
import type { Repository, RepositoryOptions } from '../types.js'
import { web_remote } from './remote.js'
import { BrowserRepository } from './repository.js'
import { Store } from './store.js'

export { clear_stored, list_stored } from './store.js'

export function open_hub_repository(
  name: string,
  settings: RequestSettings,
  options: RepositoryOptions,
): Promise<Repository> {
  const remote = web_remote(settings, name, options.revision ?? 'main')
  return BrowserRepository.open(name, remote, new Store(settings.endpoint), settings, options)
}
