/** Normalisers: what happens to the text before it is cut. */

import { Charsmap, charsmap_bytes } from './charsmap.js'
import type { Field } from './field.js'
import { find_pattern, parse_pattern } from './pattern.js'
import type { Normalizer } from './types.js'
import { WHITE_SPACE_AT_START, white_space_at_end } from './whitespace.js'

/** The normaliser of a tokenizer.json. Types that are not known to give the reference's text are refused by name. */
export function create_normalizer(field: Field): Normalizer | null {
  if (field.absent) return null
  const type = field.get('type').string()
  switch (type) {
    case 'Sequence': {
      const steps = field.get('normalizers').fields().map(create_normalizer)
      return (text) => steps.reduce((result, step) => step?.(result) ?? result, text)
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
      const prefix = field.get('prepend').string()
      return (text) => (text === '' ? text : prefix + text)
    }
    case 'Replace': {
      const pattern = parse_pattern(field.get('pattern'))
      const content = field.get('content').string()
      return (text) =>
        find_pattern(pattern, text)
          .map(({ start, end, matched }) => (matched ? content : text.slice(start, end)))
          .join('')
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
