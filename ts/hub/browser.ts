/**
 * Hub access in browsers: files under an address, folders of the origin private file system, and hub repositories kept in
 * the Cache API.
 */

import { OptionError } from '../errors.js'
import { UrlRepository } from './browser/folder.js'
import { check_file_name, quote } from './names.js'
import type { HubPlatform } from './platform.js'
import type { RequestSettings } from './request.js'
import type { RepositoryOptions } from './types.js'

/** Loaded by those who use names: files under an address of one's own need none of it. */
const hub = () => import('./browser/hub.js')

export const browser_platform: HubPlatform = {
  async open_repository(name_or_path, options) {
    const subfolder = options.subfolder?.replace(/^\.\/|\/+$/g, '') || undefined
    if (subfolder !== undefined) check_file_name(subfolder, 'subfolder')
    const given = { ...options, subfolder }
    const settings = browser_settings(options)
    const folder = folder_address(name_or_path)
    if (folder) return new UrlRepository(name_or_path, folder, { ...settings, token: undefined }, given)
    return (await hub()).open_named(name_or_path, settings, given)
  },

  list_cached: async () => (await hub()).list_stored(),
  clear_cached: async (name) => (await hub()).clear_stored(name),
}

/** The address that `name` means where it is written as one: `https://…`, `/…`, `./…` or `../…`. */
function folder_address(name: string): URL | null {
  if (!/^(?:https?:\/\/|\/|\.{1,2}\/)/.test(name)) return null
  const base = typeof location === 'undefined' ? undefined : location.href
  try {
    return new URL(name.endsWith('/') ? name : `${name}/`, base)
  } catch {
    throw new OptionError('INVALID_OPTION', `${quote(name)} is not an address that files can be fetched from.`)
  }
}

function browser_settings(options: RepositoryOptions): RequestSettings {
  const endpoint = (options.endpoint ?? 'https://huggingface.co').replace(/\/+$/, '')
  if (!/^https?:\/\/[^?#]+$/.test(endpoint) || !is_address(endpoint)) {
    throw new OptionError('INVALID_OPTION', `"endpoint" must be like https://huggingface.co; got ${quote(endpoint)}.`)
  }
  return {
    endpoint,
    token: options.token || undefined,
    signal: options.signal,
    // Called as a function of its own: a browser's fetch refuses to be anything else's method.
    fetch: options.fetch ?? ((input, init) => fetch(input, init)),
    timeout_ms: options.timeout_ms ?? 30_000,
    max_retries: options.max_retries ?? 4,
    retry_delay_ms: options.retry_delay_ms ?? 300,
    raw_http: false,
  }
}

/** `URL.canParse`, which is newer than what else is needed. */
function is_address(text: string): boolean {
  try {
    return new URL(text).href !== ''
  } catch {
    return false
  }
}
