/** Decoders: how tokens become text. */

import type { Field } from './field.js'
import { check_length, parse_pattern, replace_pattern } from './pattern.js'
import { metaspace_replacement, prepend_scheme } from './pre_tokenizers.js'
import type { Decoder } from './types.js'

/** The decoder of a tokenizer.json, `null` where there is none: tokens are then joined by spaces. */
export function create_decoder(field: Field): Decoder | null {
  if (field.absent) return null
  switch (field.get('type').string()) {
    case 'Sequence': {
      const steps = field.get('decoders').fields().map(create_decoder)
      return (tokens) => steps.reduce((result, step) => step?.(result) ?? result, tokens)
    }
    case 'Metaspace': {
      const replacement = metaspace_replacement(field)
      const keep = prepend_scheme(field) === 'never'
      // The first token loses every space, not just the one that was put before it: as in the reference.
      return (tokens) => tokens.map((token, index) => token.replaceAll(replacement, index === 0 && !keep ? '' : ' '))
    }
    case 'ByteFallback':
      return decode_bytes
    case 'Fuse':
      return (tokens) => [tokens.join('')]
    case 'Replace': {
      const pattern = parse_pattern(field.get('pattern'))
      const content = field.get('content').short_string()
      return (tokens) => {
        let total = 0
        return tokens.map((token) => {
          const replaced = replace_pattern(pattern, token, content)
          total += replaced.length
          check_length(total)
          return replaced
        })
      }
    }
    case 'Strip': {
      const content = field.get('content').string()
      const [start, stop] = [field.get('start').integer(1_000_000), field.get('stop').integer(1_000_000)]
      return (tokens) => tokens.map((token) => strip(token, content, start, stop))
    }
    default:
      return field
        .get('type')
        .fail('a decoder that is supported (Metaspace, ByteFallback, Fuse, Replace, Strip, Sequence)')
  }
}

/** Joins tokens such as `<0xE2>` to characters. A run of them that is not UTF-8 becomes one U+FFFD per byte. */
function decode_bytes(tokens: string[]): string[] {
  const result: string[] = []
  let bytes: number[] = []
  const flush = () => {
    if (bytes.length === 0) return
    try {
      result.push(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes)))
    } catch {
      for (const _ of bytes) result.push('\ufffd')
    }
    bytes = []
  }
  for (const token of tokens) {
    const byte = byte_of_token(token)
    if (byte !== null) {
      bytes.push(byte)
      continue
    }
    flush()
    result.push(token)
  }
  flush()
  return result
}

/** The byte that a token such as `<0xE2>` stands for. */
export function byte_of_token(token: string): number | null {
  const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)
  return digits ? Number.parseInt(digits[1]!, 16) : null
}

function strip(token: string, content: string, start: number, stop: number): string {
  const chars = [...token]
  let from = 0
  while (from < Math.min(start, chars.length) && chars[from] === content) ++from
  let to = chars.length
  while (chars.length - to < stop && to > 0 && chars[to - 1] === content) --to
  return chars.slice(from, Math.max(from, to)).join('')
}
