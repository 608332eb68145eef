/** The settings of Python's hub client, read from the same environment variables and files. */

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { OptionError } from '../../errors.js'
import { quote } from '../names.js'
import type { RequestSettings } from '../request.js'
import type { RepositoryOptions } from '../types.js'

export interface HubSettings extends RequestSettings {
  cache_dir: string
  offline: boolean
}

/** Options over environment over defaults. The environment is read at every call, so that programs can set it. */
export function hub_settings(options: RepositoryOptions): HubSettings {
  const { env } = process
  return {
    endpoint: check_endpoint(options.endpoint ?? (env.HF_ENDPOINT || 'https://huggingface.co')),
    token: check_token(options.token === false ? undefined : (options.token ?? implicit_token())),
    signal: options.signal,
    fetch: options.fetch ?? fetch,
    timeout_ms: check_number(options.timeout_ms ?? seconds(env.HF_HUB_DOWNLOAD_TIMEOUT) ?? 30_000, 'timeout_ms', 1),
    max_retries: check_number(options.max_retries ?? 4, 'max_retries', 0),
    retry_delay_ms: check_number(options.retry_delay_ms ?? 300, 'retry_delay_ms', 0),
    raw_http: true,
    cache_dir: cache_directory(options.cache_dir),
    offline: options.local_files_only === true || is_true(env.HF_HUB_OFFLINE) || is_true(env.TRANSFORMERS_OFFLINE),
  }
}

export function cache_directory(cache_dir?: string): string {
  const { env } = process
  const chosen = cache_dir || env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(hub_home(), 'hub')
  return resolve(expand(chosen))
}

/** `~` for the home directory, and `$NAME` and `${NAME}` for variables that are set. */
export function expand(path: string): string {
  const home = path.replace(/^~(?=$|[/\\])/, homedir())
  return home.replace(/\$(?:(\w+)|\{(\w+)\})/g, (text, bare, braced) => process.env[bare ?? braced] ?? text)
}

function hub_home(): string {
  const { env } = process
  return expand(env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'))
}

function implicit_token(): string | undefined {
  const { env } = process
  if (is_true(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined
  const given = env.HF_TOKEN?.trim() || env.HUGGING_FACE_HUB_TOKEN?.trim()
  if (given) return given
  try {
    return readFileSync(expand(env.HF_TOKEN_PATH || join(hub_home(), 'token')), 'utf8').trim() || undefined
  } catch {
    // Not logged in.
    return undefined
  }
}

function check_token(token: string | undefined): string | undefined {
  if (token === undefined || token === '') return undefined
  // The token itself stays out of the message.
  if (typeof token === 'string' && /^[\x21-\x7e]+$/.test(token)) return token
  throw new OptionError('INVALID_OPTION', 'The access token has spaces, line breaks or other characters no token has.')
}

function check_endpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (url && (url.protocol === 'https:' || url.protocol === 'http:') && !url.search && !url.hash) {
    return endpoint.replace(/\/+$/, '')
  }
  const message = `The hub's address (option "endpoint" or HF_ENDPOINT) must be like https://huggingface.co; got ${quote(String(endpoint))}.`
  throw new OptionError('INVALID_OPTION', message)
}

function check_number(value: number, name: string, minimum: number): number {
  if (typeof value === 'number' && value >= minimum && value <= 2 ** 31 - 1) return value
  throw new OptionError('INVALID_OPTION', `${name} must be a number of at least ${minimum}; got ${String(value)}.`)
}

function seconds(value: string | undefined): number | undefined {
  const number = Number(value)
  return value && number > 0 ? number * 1000 : undefined
}

/** As Python's client reads a switch. */
export function is_true(value: string | undefined): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(value?.toUpperCase() ?? '')
}
