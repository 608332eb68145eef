/** Normalisers: what happens to the text before it is cut. */

import { Charsmap, charsmap_bytes } from './charsmap.js'
import type { Field } from './field.js'
import { check_length, parse_pattern, replace_pattern } from './pattern.js'
import type { Normalizer } from './types.js'
import { WHITE_SPACE_AT_START, white_space_at_end } from './whitespace.js'

/** How many characters a normaliser may make of one. The charsmaps of real tokenizers make 18 at most. */
const MAX_GROWTH = 64

/** The normaliser of a tokenizer.json. Types that are not known to give the reference's text are refused by name. */
export function create_normalizer(field: Field): Normalizer | null {
  if (field.absent) return null
  const normalize = create_step(field)
  return (text) => {
    const normalized = normalize(text)
    check_length(normalized.length, MAX_GROWTH * (text.length + 1000))
    return normalized
  }
}

function create_step(field: Field): Normalizer {
  const type = field.get('type').string()
  switch (type) {
    case 'Sequence': {
      const steps = field.get('normalizers').fields().map(create_normalizer)
      return (text) => {
        const limit = MAX_GROWTH * (text.length + 1000)
        let result = text
        for (const step of steps) {
          result = step?.(result) ?? result
          check_length(result.length, limit)
        }
        return result
      }
    }
    case 'Precompiled': {
      const source = field.get('precompiled_charsmap')
      const charsmap = new Charsmap(charsmap_bytes(source), source)
      return (text) => charsmap.normalize(text)
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return (text) => text.normalize(type)
    case 'Prepend': {
      const prefix = field.get('prepend').short_string()
      return (text) => (text === '' ? text : prefix + text)
    }
    case 'Replace': {
      const pattern = parse_pattern(field.get('pattern'))
      const content = field.get('content').short_string()
      return (text) => replace_pattern(pattern, text, content)
    }
    case 'Strip': {
      const left = field.get('strip_left').boolean()
      const right = field.get('strip_right').boolean()
      return (text) => {
        const cut = right ? text.slice(0, white_space_at_end(text)) : text
        return left ? cut.replace(WHITE_SPACE_AT_START, '') : cut
      }
    }
    default:
      return field
        .get('type')
        .fail('a normaliser that is supported (Precompiled, NFC, NFD, NFKC, NFKD, Replace, Prepend, Strip, Sequence)')
  }
}
