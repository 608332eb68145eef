/** Which names may become parts of paths and addresses. Everything that a user, a server or an index names passes here. */

import { InputError } from '../errors.js'

export const COMMIT = /^[0-9a-f]{40}$/
const ETAG = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
const SEGMENT = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/
const MAX_NAME = 1024

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

/** Whether `file` is a plain relative path with "/" between its parts, on any platform's reading of it. */
export function is_file_name(file: string): boolean {
  if (file.length === 0 || file.length > MAX_NAME) return false
  // Backslashes separate on Windows, a colon makes a drive or a stream, control characters have no place in a name.
  if (/[\\:]/.test(file) || has_control_character(file)) return false
  return file.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

export function check_file_name(file: string, what = 'file'): void {
  if (is_file_name(file)) return
  throw new InputError(
    `${quote(file)} cannot be used as the name of a ${what}: it must be a relative path without "..".`,
  )
}

export function check_revision(revision: string): void {
  if (is_file_name(revision) && /^[\w./+@-]+$/.test(revision)) return
  throw new InputError(`${quote(revision)} is not a revision. Give a branch, a tag or a commit, such as "main".`)
}

export function is_etag(etag: string): boolean {
  return ETAG.test(etag)
}

/** For messages: text from outside, shortened and with control characters escaped. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
}

function has_control_character(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 32 || code === 127) return true
  }
  return false
}
