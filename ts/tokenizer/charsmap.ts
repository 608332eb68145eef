/**
 * SentencePiece's precompiled character map (`nmt_nfkc` and its like), applied as Hugging Face `tokenizers` applies it.
 *
 * The blob is: u32 size of the trie in bytes, the trie (a Darts double array of u32 units, keyed by UTF-8 bytes), and
 * replacement strings, each ended by a zero byte, to whose first byte the trie's values point. All little-endian.
 *
 * What differs from SentencePiece, and is kept because checkpoints' ids depend on it: the text is cut into grapheme
 * clusters. A cluster of less than six bytes is looked up whole, and replaced whole by the *shortest* key that it begins
 * with; otherwise its characters are looked up one by one. So a zero-width joiner alone becomes a space, but inside a
 * short cluster it may vanish, and inside an emoji sequence it is on its own again.
 */

import { type Field, MAX_SHORT } from './field.js'
import { cluster_end } from './graphemes.js'
import { check_length } from './pattern.js'

/** Clusters of at least this many UTF-8 bytes are looked up by character. */
const CLUSTER_BYTES = 6

export class Charsmap {
  readonly #units: Uint32Array
  readonly #strings: Uint8Array
  /** Replacements of single ASCII characters, `null` where there is none. */
  readonly #ascii: (string | null)[]
  readonly #cache = new Map<string, string | null>()
  readonly #scratch = new Uint8Array(CLUSTER_BYTES)

  /** Throws a TokenizerError for a blob that is cut short. */
  constructor(blob: Uint8Array, source: Field) {
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength)
    const size = blob.byteLength < 4 ? 0 : view.getUint32(0, true)
    if (size < 4 || size % 4 !== 0 || size > blob.byteLength - 4) {
      source.fail('a whole charsmap', `${blob.byteLength} bytes with a trie of ${size}`)
    }
    this.#units = Uint32Array.from({ length: size / 4 }, (_, index) => view.getUint32(4 + index * 4, true))
    this.#strings = blob.subarray(4 + size)
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(this.#strings)
    } catch {
      source.fail('a charsmap whose replacements are UTF-8')
    }
    this.#ascii = Array.from({ length: 0x80 }, (_, code) => this.#find(String.fromCharCode(code)))
  }

  normalize(text: string): string {
    let result = ''
    /** Start of what has been read but not yet copied, because nothing in it changes. */
    let pending = 0
    const replace = (start: number, end: number, replacement: string) => {
      result += text.slice(pending, start) + replacement
      check_length(result.length)
      pending = end
    }
    for (let at = 0; at < text.length; ) {
      const code = text.charCodeAt(at)
      // Two ASCII characters never share a cluster, unless they are a line break.
      if (code < 0x80 && !(text.charCodeAt(at + 1) >= 0x80) && code !== 0x0d) {
        const replacement = this.#ascii[code]!
        if (replacement !== null) replace(at, at + 1, replacement)
        ++at
        continue
      }
      const end = cluster_end(text, at)
      const whole = this.#transform(text.slice(at, end))
      if (whole !== null) replace(at, end, whole)
      else if (text.codePointAt(at)! > 0xffff ? end > at + 2 : end > at + 1) this.#by_character(text, at, end, replace)
      at = end
    }
    return pending === 0 ? text : result + text.slice(pending)
  }

  #by_character(
    text: string,
    start: number,
    end: number,
    replace: (start: number, end: number, by: string) => void,
  ): void {
    for (let at = start; at < end; ) {
      const next = at + (text.codePointAt(at)! > 0xffff ? 2 : 1)
      const replacement = this.#transform(text.slice(at, next))
      if (replacement !== null) replace(at, next, replacement)
      at = next
    }
  }

  #transform(chunk: string): string | null {
    // No character has more than three bytes per UTF-16 unit, so that longer clusters need not be cached or encoded.
    if (chunk.length >= CLUSTER_BYTES) return null
    let found = this.#cache.get(chunk)
    if (found === undefined) {
      if (this.#cache.size >= 65_536) this.#cache.clear()
      found = this.#find(chunk)
      this.#cache.set(chunk, found)
    }
    return found
  }

  /** The replacement of the shortest key that `chunk` begins with, if it is short enough to be looked up. */
  #find(chunk: string): string | null {
    const { read, written } = new TextEncoder().encodeInto(chunk, this.#scratch)
    if (read < chunk.length || written >= CLUSTER_BYTES) return null
    const units = this.#units
    let node = offset(units[0]!)
    for (let index = 0; index < written; ++index) {
      const byte = this.#scratch[index]!
      if (byte === 0) return null
      node ^= byte
      const unit = units[node]
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null
      node ^= offset(unit)
      if ((unit >>> 8) & 1) return this.#string((units[node] ?? 0) & 0x7fffffff)
    }
    return null
  }

  #string(start: number): string {
    const limit = this.#strings.subarray(start, start + MAX_SHORT)
    const end = limit.indexOf(0)
    return new TextDecoder().decode(end < 0 ? limit : limit.subarray(0, end))
  }
}

/** Where a unit's children begin, relative to it. */
function offset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6)
}

/** The bytes of a `precompiled_charsmap`: base64 in tokenizer.json, bytes in spiece.model. */
export function charsmap_bytes(source: Field): Uint8Array {
  if (source.value instanceof Uint8Array) return source.value
  try {
    const binary = atob(source.string())
    const bytes = new Uint8Array(binary.length)
    for (let index = 0; index < binary.length; ++index) bytes[index] = binary.charCodeAt(index)
    return bytes
  } catch {
    return source.fail('base64')
  }
}
