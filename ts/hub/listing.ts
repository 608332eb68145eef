/** What a hub says about a commit and its files, believed only as far as it can be true. */

import { HubError } from '../errors.js'
import { describe, type Subject } from './failures.js'
import { is_file_name, quote } from './names.js'
import { COMMIT, is_etag } from './repository_names.js'
import type { RemoteFile } from './types.js'

/** An entry of a listing, as the hub writes it. Large files have `lfs`, whose hash is that of the content. */
export interface TreeEntry {
  type?: unknown
  path?: unknown
  size?: unknown
  oid?: unknown
  lfs?: { size?: unknown; oid?: unknown }
}

/** The file of an entry; null for folders and for names that could not be asked for anyway, such as `../x`. */
export function listed_file(entry: TreeEntry | null | undefined, subject: Subject): RemoteFile | null {
  const path = entry?.path
  if (entry?.type !== 'file' || typeof path !== 'string' || !is_file_name(path)) return null
  const size = entry.lfs?.size ?? entry.size
  const etag = entry.lfs?.oid ?? entry.oid
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw impossible({ ...subject, file: path }, `the size ${String(size)}`)
  }
  if (typeof etag !== 'string' || !is_etag(etag)) {
    throw impossible({ ...subject, file: path }, `the hash ${quote(String(etag))}`)
  }
  return { path, size, etag }
}

export function listed_commit(sha: unknown, subject: Subject): string {
  if (typeof sha === 'string' && COMMIT.test(sha)) return sha
  throw impossible(subject, `the commit ${quote(String(sha))}`)
}

export function impossible(subject: Subject, what: string): HubError {
  const message = `The hub named ${what} for ${describe(subject)}, which no hub does. Check the endpoint.`
  return new HubError('HUB_NETWORK', message, { details: { ...subject } })
}
