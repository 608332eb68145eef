/** Post-processors: which special tokens go around the ids. */

import type { Field } from './field.js'
import { MAX_ID, type Token } from './types.js'

export interface Processed {
  tokens: Token[]
  /** The sequence that each token is counted to. */
  type_ids: number[]
}

export interface PostProcessor {
  /** Number of special tokens that it adds. */
  added(pair: boolean): number
  process(tokens: Token[], pair: Token[] | null, add_special_tokens: boolean): Processed
}

type Part = { sequence: 'A' | 'B'; type_id: number } | { tokens: Token[]; type_id: number }

/** The post-processor of a tokenizer.json. */
export function create_post_processor(field: Field): PostProcessor {
  if (field.absent) return template([SEQUENCE_A], [SEQUENCE_A, SEQUENCE_B])
  switch (field.get('type').string()) {
    case 'TemplateProcessing': {
      const special = field.get('special_tokens')
      const parts = (key: string) =>
        field
          .get(key)
          .fields()
          .map((part) => parse_part(part, special))
      return template(parts('single'), parts('pair'))
    }
    case 'Sequence': {
      const steps = field.get('processors').fields()
      if (steps.length !== 1) field.get('processors').fail('an array of one post-processor')
      return create_post_processor(steps[0]!)
    }
    default:
      return field.get('type').fail('a post-processor that is supported (TemplateProcessing)')
  }
}

const SEQUENCE_A: Part = { sequence: 'A', type_id: 0 }
const SEQUENCE_B: Part = { sequence: 'B', type_id: 1 }

function parse_part(field: Field, special: Field): Part {
  const part = field.object()
  if ('Sequence' in part) {
    const sequence = field.get('Sequence')
    return { sequence: sequence.get('id').one_of(['A', 'B']), type_id: sequence.get('type_id').integer(MAX_ID) }
  }
  const name = field.get('SpecialToken').get('id').string()
  const token = special.get(name)
  const ids = token
    .get('ids')
    .fields()
    .map((id) => id.integer(MAX_ID))
  const values = token.get('tokens').absent
    ? []
    : token
        .get('tokens')
        .fields()
        .map((value) => value.string())
  const type_id = field.get('SpecialToken').get('type_id').integer(MAX_ID)
  return { tokens: ids.map((id, index) => ({ id, value: values[index] ?? name })), type_id }
}

function template(single: Part[], pair: Part[]): PostProcessor {
  const count = (parts: Part[]) => parts.reduce((sum, part) => sum + ('tokens' in part ? part.tokens.length : 0), 0)
  const added = { single: count(single), pair: count(pair) }
  return {
    added: (is_pair) => (is_pair ? added.pair : added.single),
    process(tokens, pair_tokens, add_special_tokens) {
      const result: Processed = { tokens: [], type_ids: [] }
      for (const part of pair_tokens === null ? single : pair) {
        if ('tokens' in part && !add_special_tokens) continue
        const more = 'tokens' in part ? part.tokens : part.sequence === 'A' ? tokens : (pair_tokens ?? [])
        for (const token of more) {
          result.tokens.push(token)
          result.type_ids.push(part.type_id)
        }
      }
      return result
    },
  }
}
