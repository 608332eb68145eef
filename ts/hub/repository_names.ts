/** Names of hub repositories, revisions and contents. Apart from `names.ts`: folders and addresses need none of it. */

import { InputError } from '../errors.js'
import { is_file_name, quote } from './names.js'

export const COMMIT = /^[0-9a-f]{40}$/
const ETAG = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
const SEGMENT = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/

/** Whether `name` can be a repository: `owner/name`, or `name` alone for the oldest ones (the hub's own rules). */
export function is_repository_name(name: string): boolean {
  if (name.length > 2 * 96 + 1 || name.includes('--') || name.includes('..') || name.endsWith('.git')) return false
  const segments = name.split('/')
  return segments.length <= 2 && segments.every((segment) => segment.length <= 96 && SEGMENT.test(segment))
}

export function check_repository_name(name: string): void {
  if (is_repository_name(name)) return
  throw new InputError(
    `${quote(name)} is neither a folder nor the name of a repository. A repository is named owner/name, with letters, ` +
      'digits, "-", "_" and "."; a folder that is not there yet cannot be loaded from.',
  )
}

export function check_revision(revision: string): void {
  if (is_file_name(revision) && /^[\w./+@-]+$/.test(revision)) return
  throw new InputError(`${quote(revision)} is not a revision. Give a branch, a tag or a commit, such as "main".`)
}

export function is_etag(etag: string): boolean {
  return ETAG.test(etag)
}
