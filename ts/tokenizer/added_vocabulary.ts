/** Tokens that are found in the text before anything else happens to it, such as `</s>` and `<extra_id_0>`. */

import { TokenizerError } from '../errors.js'
import type { Field } from './field.js'
import { MAX_TRIE_UNITS, Trie } from './trie.js'
import { MAX_ID, type Model, type Normalizer } from './types.js'
import { WHITE_SPACE_AT_START, white_space_at_end } from './whitespace.js'

export interface AddedToken {
  content: string
  /** Only where no word character touches it. */
  single_word: boolean
  /** Takes the white space before it along. */
  lstrip: boolean
  /** Takes the white space after it along. */
  rstrip: boolean
  /** Found in the normalised text, by its normalised form. */
  normalized: boolean
  /** Left out by `skip_special_tokens`. */
  special: boolean
}

/** A stretch of text, and the id of the added token that it is, if it is one. */
export interface Section {
  text: string
  start: number
  id: number | null
}

/** An added token as tokenizer.json and tokenizer_config.json write it: a string, or an object. Strings are special. */
export function parse_added_token(field: Field): AddedToken {
  if (typeof field.value === 'string') {
    return {
      content: field.short_string(),
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    }
  }
  const special = field.get('special').boolean(false)
  return {
    content: field.get('content').short_string(),
    single_word: field.get('single_word').boolean(false),
    lstrip: field.get('lstrip').boolean(false),
    rstrip: field.get('rstrip').boolean(false),
    normalized: field.get('normalized').boolean(!special),
    special,
  }
}

export class AddedVocabulary {
  readonly #model: Model
  readonly #normalizer: Normalizer | null
  readonly #by_id = new Map<number, AddedToken>()
  readonly #ids = new Map<string, number>()
  readonly #special = new Set<string>()
  #raw: Matcher | null = null
  #normalized: Matcher | null = null

  constructor(model: Model, normalizer: Normalizer | null) {
    this.#model = model
    this.#normalizer = normalizer
  }

  /**
   * Adds a token, or changes what is known of it. Its id is the vocabulary's where that has the token, else `id`, else
   * the next free one.
   */
  add(token: AddedToken, id: number | null, source: Field): void {
    if (token.content === '') return
    const known = this.token_to_id(token.content)
    const chosen = known ?? id ?? this.#next_id()
    const holder = this.#by_id.get(chosen)?.content ?? this.#model.id_to_token(chosen)
    if (known === undefined && holder !== undefined) {
      source.fail(
        'an id of its own',
        `${JSON.stringify(token.content)} with id ${chosen}, which is that of ${JSON.stringify(holder)}`,
      )
    }
    if (chosen > MAX_ID) source.fail(`an id of at most ${MAX_ID}`)
    this.#by_id.set(chosen, token)
    this.#ids.set(token.content, chosen)
    if (token.special) this.#special.add(token.content)
    this.#raw = null
    this.#normalized = null
  }

  /** Whether a token of that content has been added. */
  has(content: string): boolean {
    return this.#ids.has(content)
  }

  is_special(content: string): boolean {
    return this.#special.has(content)
  }

  token_to_id(token: string): number | undefined {
    return this.#ids.get(token) ?? this.#model.token_to_id(token)
  }

  id_to_token(id: number): string | undefined {
    return this.#by_id.get(id)?.content ?? this.#model.id_to_token(id)
  }

  /** What an id contributes to a text: an added token's normalised form where it was found by that. */
  id_to_text(id: number): string | undefined {
    const token = this.#by_id.get(id)
    return token ? this.#pattern(token) : this.#model.id_to_token(id)
  }

  /** The added tokens by id, in order of id. */
  entries(): [id: number, token: AddedToken][] {
    return [...this.#by_id].sort(([a], [b]) => a - b)
  }

  /** Number of entries, the model's among them. */
  get size(): number {
    let added = 0
    for (const content of this.#ids.keys()) if (this.#model.token_to_id(content) === undefined) ++added
    return this.#model.size + added
  }

  /** Cuts raw text at the tokens that are found in it as it is. */
  split_raw(text: string): Section[] {
    this.#raw ??= new Matcher(this.#tokens((token) => !token.normalized))
    return this.#raw.split(text)
  }

  /** Cuts normalised text at the tokens that are found in it by their normalised form. */
  split_normalized(text: string): Section[] {
    this.#normalized ??= new Matcher(this.#tokens((token) => token.normalized))
    return this.#normalized.split(text)
  }

  #tokens(wanted: (token: AddedToken) => boolean): Map<string, { id: number; token: AddedToken }> {
    const tokens = new Map<string, { id: number; token: AddedToken }>()
    for (const [id, token] of this.#by_id) if (wanted(token)) tokens.set(this.#pattern(token), { id, token })
    return tokens
  }

  #pattern(token: AddedToken): string {
    return token.normalized && this.#normalizer ? this.#normalizer(token.content) : token.content
  }

  #next_id(): number {
    let next = this.#model.size
    for (const id of this.#by_id.keys()) next = Math.max(next, id + 1)
    return next
  }
}

/** Finds tokens in a text: the leftmost first, of those that begin at one place the longest. */
class Matcher {
  readonly #tokens: { id: number; token: AddedToken }[]
  readonly #trie: Trie | null

  /** @param tokens The tokens by the text that they are found by. */
  constructor(tokens: Map<string, { id: number; token: AddedToken }>) {
    this.#tokens = [...tokens.values()]
    let units = 0
    for (const content of tokens.keys()) units += content.length
    if (units > MAX_TRIE_UNITS) {
      throw new TokenizerError(`The added tokens have ${units} characters in all; at most ${MAX_TRIE_UNITS} are taken.`)
    }
    this.#trie = tokens.size === 0 ? null : new Trie(units)
    let index = 0
    for (const content of tokens.keys()) {
      if (content !== '') this.#trie?.add(content, index)
      ++index
    }
  }

  split(text: string): Section[] {
    const sections: Section[] = []
    let before = 0
    const add = (start: number, end: number, id: number | null) => {
      if (start < end) sections.push({ text: text.slice(start, end), start, id })
    }
    for (let at = 0; this.#trie && at < text.length; ) {
      const found = longest_match(this.#trie, text, at)
      if (found === null) {
        ++at
        continue
      }
      const { id, token } = this.#tokens[found.piece]!
      let start = at
      let end = found.end
      at = end
      if (
        token.single_word &&
        (WORD_AT_END.test(last_char(text, start)) || WORD_AT_START.test(text.slice(end, end + 2)))
      )
        continue
      if (token.lstrip) start = Math.max(before, before + white_space_at_end(text.slice(before, start)))
      if (token.rstrip) end += WHITE_SPACE_AT_START.exec(text.slice(end))?.[0].length ?? 0
      add(before, start, null)
      add(start, end, id)
      before = end
    }
    add(before, text.length, null)
    return sections
  }
}

/** The longest piece that begins at `start`. */
function longest_match(trie: Trie, text: string, start: number): { piece: number; end: number } | null {
  let found: { piece: number; end: number } | null = null
  for (let node = 0, end = start; end < text.length; ) {
    node = trie.child(node, text.charCodeAt(end++))
    if (node < 0) break
    const piece = trie.piece(node)
    if (piece >= 0) found = { piece, end }
  }
  return found
}

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]'
const WORD_AT_END = new RegExp(`${WORD}$`, 'u')
const WORD_AT_START = new RegExp(`^${WORD}`, 'u')

/** The character that ends at `end`. */
function last_char(text: string, end: number): string {
  return text.slice(Math.max(0, end - 2), end)
}
