/** The tokens that have a role: which they are, as a checkpoint's files say, and how they enter the vocabulary. */

import { type AddedToken, type AddedVocabulary, parse_added_token } from './added_vocabulary.js'
import { Field } from './field.js'
import { MAX_ID } from './types.js'

/** Roles in the order in which the reference lists them. */
export const ROLES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const
export type Role = (typeof ROLES)[number]

export interface SpecialTokens {
  /** The token of each role that is taken. */
  roles: Partial<Record<Role, AddedToken>>
  /** Further special tokens, such as T5's sentinels. */
  extra: AddedToken[]
  /** Tokens that the files add to the vocabulary, with the ids that the files give them. */
  added: { token: AddedToken; id: number; source: Field }[]
}

/** The small files beside tokenizer.json or spiece.model. Each may be absent. */
export interface ConfigFiles {
  /** tokenizer_config.json */
  config: Field
  /** special_tokens_map.json */
  special_tokens_map?: Field | null
  /** added_tokens.json */
  added_tokens?: Field | null
}

/** The added tokens of a definition. */
export function read_added_tokens(definition: Field): SpecialTokens['added'] {
  const added = definition.get('added_tokens')
  if (added.absent) return []
  return added
    .fields()
    .map((source) => ({ token: parse_added_token(source), id: source.get('id').integer(MAX_ID), source }))
}

/**
 * Reads the special tokens. As in the reference, special_tokens_map.json, added_tokens.json and the definition's own
 * added tokens only count where tokenizer_config.json has no `added_tokens_decoder`.
 */
export function read_special_tokens(
  files: ConfigFiles,
  definition: Field,
  defaults: Partial<Record<Role, string>>,
): SpecialTokens {
  const { config } = files
  const result: SpecialTokens = { roles: {}, extra: [], added: [] }
  const decoder = config.get('added_tokens_decoder')
  const legacy = decoder.absent
  if (!legacy) {
    for (const key of Object.keys(decoder.object())) {
      const source = decoder.get(key)
      const id = /^\d{1,10}$/.test(key) ? Number(key) : Number.NaN
      if (!(id <= MAX_ID)) source.fail(`a token under an id from 0 to ${MAX_ID}`)
      result.added.push({ token: parse_added_token(source), id, source })
    }
  }
  const sources = legacy && files.special_tokens_map ? [config, files.special_tokens_map] : [config]
  for (const role of ROLES) {
    const fallback = defaults[role]
    if (fallback !== undefined) result.roles[role] = parse_added_token(new Field(fallback, config.file))
    for (const source of sources) {
      if (!source.get(role).absent) result.roles[role] = parse_special(source.get(role))
    }
  }
  for (const source of sources) {
    const [extra, additional] = [source.get('extra_special_tokens'), source.get('additional_special_tokens')]
    for (const field of list(empty(extra) ? additional : extra)) result.extra.push(parse_special(field))
  }
  if (legacy) {
    const special = new Set([...Object.values(result.roles), ...result.extra].map(({ content }) => content))
    for (const content of files.added_tokens ? Object.keys(files.added_tokens.object()) : []) {
      const source = files.added_tokens!.get(content)
      const is_special = special.has(content)
      const flags = { single_word: false, lstrip: false, rstrip: false, normalized: !is_special, special: is_special }
      result.added.push({ token: { content, ...flags }, id: source.integer(MAX_ID), source })
    }
    result.added = result.added.concat(read_added_tokens(definition))
  }
  result.added.sort((a, b) => a.id - b.id)
  return result
}

/** Makes the vocabulary know the special tokens. Those that it lacks get ids at its end. */
export function add_special_tokens(
  vocabulary: AddedVocabulary,
  { roles, extra, added }: SpecialTokens,
  source: Field,
): void {
  const named = new Set(Object.values(roles).map(({ content }) => content))
  const seen = new Map<number, string>()
  for (const { token, id, source } of added) {
    if ((seen.get(id) ?? token.content) !== token.content) source.fail('an id that no other token has')
    seen.set(id, token.content)
    vocabulary.add({ ...token, special: token.special || named.has(token.content) }, id, source)
  }
  for (const token of [...Object.values(roles), ...extra]) {
    if (!vocabulary.has(token.content)) vocabulary.add({ ...token, special: true }, null, source)
  }
}

/** Special tokens written as objects may leave `special` out. */
function parse_special(field: Field): AddedToken {
  const token = parse_added_token(field)
  if (typeof field.value === 'string') return token
  return { ...token, special: true, normalized: field.get('normalized').boolean(false) }
}

function empty(field: Field): boolean {
  return field.absent || (Array.isArray(field.value) && field.value.length === 0)
}

/** A list of tokens, or the values of an object that names them. */
function list(field: Field): Field[] {
  if (field.absent) return []
  if (Array.isArray(field.value)) return field.fields()
  return Object.keys(field.object()).map((key) => field.get(key))
}
