/** What went wrong between us and a hub, said so that the reader knows what to do. */

import { HubError } from '../errors.js'
import { quote } from './names.js'

/** What a request was for, for messages. */
export interface Subject {
  repository: string
  revision: string
  file?: string
}

/** An error that may pass: the request is worth another attempt, after `retry_after_ms` where the server said so. */
export class Passing extends Error {
  readonly error: HubError
  readonly retry_after_ms: number | undefined

  constructor(error: HubError, retry_after_ms?: number) {
    super(error.message)
    this.error = error
    this.retry_after_ms = retry_after_ms
  }
}

/** The server cannot go on from where we are: begin anew. */
export class RangeRefused extends Error {}

export function describe(subject: Subject): string {
  const { file, repository, revision } = subject
  return file === undefined ? `${repository} (revision ${revision})` : `${file} of ${repository} (revision ${revision})`
}

/** The error for an answer with status 400 or above. */
export function status_error(response: Response, url: URL, subject: Subject, has_token: boolean): HubError | Passing {
  const { status } = response
  const reason = response.headers.get('x-error-code')
  const said = response.headers.get('x-error-message')
  const details = { status, url: address(url), reason, ...subject }
  const suffix = said ? ` The hub said: ${quote(said)}` : ''
  const page = `${url.origin}/${subject.repository}`

  if (status === 429 || status >= 500) {
    const busy = status === 429 ? 'limits the number of requests' : 'has trouble'
    const message = `${url.host} ${busy} (HTTP ${status}) on ${describe(subject)}. Try again later.${suffix}`
    return new Passing(new HubError('HUB_NETWORK', message, { details }), retry_after(response))
  }
  if (reason === 'GatedRepo' || status === 403) {
    const todo = has_token
      ? `Ask for access at ${page}, or use a token that may read it.`
      : `Ask for access at ${page}, then set HF_TOKEN or pass "token".`
    return new HubError('HUB_UNAUTHORIZED', `No access to ${describe(subject)} (HTTP ${status}). ${todo}${suffix}`, {
      details,
    })
  }
  if (status === 401 && reason !== 'RepoNotFound') {
    const todo = has_token
      ? 'The token is invalid or expired: set HF_TOKEN to another.'
      : 'Set HF_TOKEN or pass "token".'
    return new HubError('HUB_UNAUTHORIZED', `${url.host} wants a token for ${describe(subject)}. ${todo}${suffix}`, {
      details,
    })
  }
  if (reason === 'RevisionNotFound') {
    const message = `${subject.repository} has no revision ${quote(subject.revision)}. Its branches are listed at ${page}/tree/main.`
    return new HubError('HUB_NOT_FOUND', message, { details })
  }
  if (reason === 'EntryNotFound' || (status === 404 && subject.file !== undefined && reason === null)) {
    const message = `${describe(subject)} does not exist. Its files are listed at ${page}/tree/${subject.revision}.`
    return new HubError('HUB_NOT_FOUND', message, { details })
  }
  if (status === 401 || status === 404) {
    const message =
      `There is no repository ${quote(subject.repository)} on ${url.host}, or it is private. ` +
      `Check the spelling at ${page}${has_token ? '' : ', and set HF_TOKEN if it is private'}.`
    return new HubError('HUB_NOT_FOUND', message, { details })
  }
  return new HubError('HUB_NETWORK', `${url.host} refused ${describe(subject)} with HTTP ${status}.${suffix}`, {
    details,
  })
}

/** The error for a connection that failed, before the answer or (`begun`) in the middle of it. */
export function connection_error(cause: unknown, url: URL, subject: Subject, begun: boolean): Passing {
  // fetch reports "fetch failed" and hides the reason in the causes.
  const reasons: string[] = []
  let each: unknown = cause
  while (each instanceof Error && reasons.length < 4) {
    const code = (each as { code?: unknown }).code
    const reason = each.message || (typeof code === 'string' ? code : each.name)
    if (reason !== 'fetch failed') reasons.push(reason)
    each = each.cause
  }
  const why = reasons.length > 0 ? reasons.join(': ') : String(cause)
  const what = begun
    ? `The connection to ${url.host} broke off while ${describe(subject)} was read (${why}). What has arrived is kept; try again`
    : `${url.host} could not be reached for ${describe(subject)} (${why}). Check the connection`
  const message = `${what}, or load offline with "local_files_only".`
  return new Passing(new HubError('HUB_NETWORK', message, { cause, details: { url: address(url), ...subject } }))
}

export function stall_error(url: URL, subject: Subject, timeout_ms: number): Passing {
  const message = `${url.host} sent nothing for ${timeout_ms / 1000} s while ${describe(subject)} was read. Check the connection; what has arrived is kept.`
  return new Passing(new HubError('HUB_NETWORK', message, { details: { url: address(url), timeout_ms, ...subject } }))
}

/** The error for an answer in another form than the hub's: a login page of the network, say. */
export function foreign_answer(response: Response, url: URL, subject: Subject, wanted: string): HubError {
  const found = response.headers.get('content-type') ?? 'nothing of a known type'
  const message = `${url.host} sent ${found} instead of ${wanted} for ${describe(subject)}. A login page or a proxy may be in the way, or the endpoint is not a hub.`
  return new HubError('HUB_NETWORK', message, { details: { url: address(url), status: response.status, ...subject } })
}

export function integrity_error(
  subject: Subject,
  what: 'size' | 'hash',
  expected: string | number,
  found: string | number,
): HubError {
  const unit = what === 'size' ? ' bytes' : ''
  const message = `${describe(subject)} has the wrong ${what}: ${found}${unit}, expected ${expected}${unit}. The bad copy is not kept; try again.`
  return new HubError('HUB_INTEGRITY', message, { details: { expected, found, ...subject } })
}

/** Addresses of a content network carry signatures that are as good as a token: messages go without them. */
function address(url: URL): string {
  return `${url.origin}${url.pathname}`
}

function retry_after(response: Response): number | undefined {
  const value = response.headers.get('retry-after')
  if (value === null) return undefined
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 60) * 1000 : undefined
}
