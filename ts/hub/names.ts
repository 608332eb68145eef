/** Which names may become parts of paths and addresses. Everything that a user, a server or an index names passes here. */

import { InputError } from '../errors.js'

const MAX_NAME = 1024

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
