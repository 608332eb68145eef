/** Values of a tokenizer file, read with the checks and the messages that a file from anywhere needs. */

import { TokenizerError } from '../errors.js'
import { has_own } from '../utils/json.js'

/** A value in a JSON file, which knows where it is. */
export class Field {
  readonly value: unknown
  readonly file: string
  readonly path: string

  constructor(value: unknown, file: string, path = '') {
    this.value = value
    this.file = file
    this.path = path
  }

  /** Whether the file leaves the value out or has `null` there. */
  get absent(): boolean {
    return this.value === undefined || this.value === null
  }

  /** The value under a key of an object; absent when the object lacks it. */
  get(key: string): Field {
    const object = this.object()
    return new Field(has_own(object, key) ? object[key] : undefined, this.file, `${this.path}.${key}`)
  }

  object(): Record<string, unknown> {
    if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value)) this.fail('an object')
    return this.value as Record<string, unknown>
  }

  array(): unknown[] {
    if (!Array.isArray(this.value)) this.fail('an array')
    return this.value
  }

  /** The elements of an array. */
  fields(): Field[] {
    // Parts hold parts; no real file is anywhere near as deep.
    if (this.path.length > MAX_PATH) this.fail('less nesting')
    return this.array().map((value, index) => new Field(value, this.file, `${this.path}[${index}]`))
  }

  string(fallback?: string): string {
    if (this.absent && fallback !== undefined) return fallback
    if (typeof this.value !== 'string') this.fail('a string')
    return this.value
  }

  boolean(fallback?: boolean): boolean {
    if (this.absent && fallback !== undefined) return fallback
    if (typeof this.value !== 'boolean') this.fail('true or false')
    return this.value
  }

  /** An integer from 0 to `max`. */
  integer(max: number): number {
    if (!Number.isInteger(this.value) || (this.value as number) < 0 || (this.value as number) > max) {
      this.fail(`an integer from 0 to ${max}`)
    }
    return this.value as number
  }

  one_of<const T extends string>(choices: readonly T[], fallback?: T): T {
    const value = this.string(fallback) as T
    if (!choices.includes(value)) this.fail(`one of ${choices.join(', ')}`)
    return value
  }

  /** A string that is not so long that what repeats it takes all memory. */
  short_string(): string {
    const value = this.string()
    if (value.length > MAX_SHORT) this.fail(`a string of at most ${MAX_SHORT} characters`)
    return value
  }

  /** Throws a TokenizerError that says what was found here. */
  fail(expected: string, found = describe(this.value)): never {
    const place = this.path === '' ? 'its content' : this.path.replace(/^\./, '')
    throw new TokenizerError(
      `${this.file} is not a valid tokenizer file: ${place} is ${found}; expected ${expected}.`,
      {
        details: { file: this.file, path: this.path.replace(/^\./, '') },
      },
    )
  }
}

/** Characters of a token, a piece or a replacement. Those of real tokenizers have a few hundred at most. */
export const MAX_SHORT = 10_000
const MAX_PATH = 1000

export function describe(value: unknown): string {
  if (value === undefined) return 'missing'
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

/** A file that cannot be a tokenizer's. Real ones have 17 MB at most; this leaves room and bounds what parsing can take. */
const MAX_FILE_BYTES = 64 * 1024 * 1024

export function check_file_size(bytes: Uint8Array, file: string): void {
  if (bytes.byteLength > MAX_FILE_BYTES) {
    throw new TokenizerError(`${file} has ${bytes.byteLength} bytes; a tokenizer file has at most ${MAX_FILE_BYTES}.`, {
      details: { file, size: bytes.byteLength, limit: MAX_FILE_BYTES },
    })
  }
}

/** A JSON file's object. */
export function parse_json(bytes: Uint8Array, file: string): Field {
  check_file_size(bytes, file)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new TokenizerError(`${file} is not valid JSON: ${reason}`, { cause, details: { file } })
  }
  const field = new Field(value, file)
  field.object()
  return field
}
