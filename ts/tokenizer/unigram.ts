/** The Unigram model: the segmentation of a word with the highest total score. */

import { InputError } from '../errors.js'
import { describe, Field, MAX_SHORT } from './field.js'
import { MAX_TRIE_UNITS, Trie } from './trie.js'
import type { Model, Token } from './types.js'

/** How much worse an unknown character is than the worst piece. SentencePiece's constant. */
const UNKNOWN_PENALTY = 10
/** Words longer than this are not remembered, nor more words than that. */
const CACHED_LENGTH = 256
const CACHED_WORDS = 10_000

export class Unigram implements Model {
  readonly #pieces: string[] = []
  readonly #scores: Float64Array
  readonly #ids = new Map<string, number>()
  readonly #trie: Trie
  readonly #unknown_id: number | null
  readonly #unknown_score: number
  readonly #byte_fallback: boolean
  readonly #cache = new Map<string, Token[]>()

  /** @param model The `model` of a tokenizer.json: `vocab` as `[piece, score]`, `unk_id`, `byte_fallback`. */
  constructor(model: Field) {
    const vocab = model.get('vocab').array()
    this.#scores = new Float64Array(vocab.length)
    let units = 0
    for (let id = 0; id < vocab.length; ++id) {
      const entry: unknown = vocab[id]
      const [piece, score] = (Array.isArray(entry) ? entry : []) as unknown[]
      if (
        typeof piece !== 'string' ||
        piece.length > MAX_SHORT ||
        typeof score !== 'number' ||
        !Number.isFinite(score)
      ) {
        const found = Array.isArray(entry) ? `[${entry.slice(0, 3).map(describe).join(', ')}]` : describe(entry)
        const { file, path } = model.get('vocab')
        const place: Field = new Field(entry, file, `${path}[${id}]`)
        place.fail(`[piece, score], the piece with at most ${MAX_SHORT} characters`, found)
      }
      this.#pieces.push(piece)
      this.#scores[id] = score
      units += piece.length
    }
    if (units > MAX_TRIE_UNITS) model.get('vocab').fail(`pieces of at most ${MAX_TRIE_UNITS} characters in all`)
    const unknown = model.get('unk_id')
    this.#unknown_id = unknown.absent ? null : unknown.integer(vocab.length - 1)
    this.#unknown_score =
      this.#scores.reduce((least, score) => Math.min(least, score), Number.POSITIVE_INFINITY) - UNKNOWN_PENALTY
    this.#byte_fallback = model.get('byte_fallback').boolean(false)
    this.#trie = new Trie(units)
    for (let id = 0; id < vocab.length; ++id) {
      // Of equal pieces the last counts, as in the reference.
      this.#ids.set(this.#pieces[id]!, id)
      if (this.#pieces[id] !== '') this.#trie.add(this.#pieces[id]!, id)
    }
  }

  get size(): number {
    return this.#pieces.length
  }

  token_to_id(token: string): number | undefined {
    return this.#ids.get(token)
  }

  id_to_token(id: number): string | undefined {
    return this.#pieces[id]
  }

  tokens(): Iterable<[string, number]> {
    return this.#ids
  }

  tokenize(word: string): Token[] {
    const cached = this.#cache.get(word)
    if (cached) return cached
    const tokens = this.#to_tokens(word, this.#segment(word))
    if (word.length < CACHED_LENGTH) {
      if (this.#cache.size >= CACHED_WORDS) this.#cache.clear()
      this.#cache.set(word, tokens)
    }
    return tokens
  }

  /** Viterbi, forwards. Of equal scores the first found counts: the one whose last piece is longest. */
  #segment(word: string): { start: number; end: number }[] {
    const length = word.length
    const best = new Float64Array(length + 1)
    const start = new Int32Array(length + 1).fill(-1)
    const id = new Int32Array(length + 1)
    const reach = (from: number, end: number, piece: number, score: number) => {
      const total = score + best[from]!
      if (start[end] === -1 || total > best[end]!) {
        best[end] = total
        start[end] = from
        id[end] = piece
      }
    }
    for (let from = 0; from < length; ) {
      const next = from + (word.codePointAt(from)! > 0xffff ? 2 : 1)
      let single = false
      let node = 0
      for (let end = from; end < length; ) {
        node = this.#trie.child(node, word.charCodeAt(end++))
        if (node < 0) break
        const piece = this.#trie.piece(node)
        if (piece < 0) continue
        reach(from, end, piece, this.#scores[piece]!)
        if (end === next) single = true
      }
      if (!single) reach(from, next, this.#unknown_id ?? -1, this.#unknown_score)
      from = next
    }
    const spans: { start: number; end: number }[] = []
    let unknown_before = false
    for (let end = length; end > 0; end = start[end]!) {
      const unknown = id[end] === (this.#unknown_id ?? -1)
      // Unknown characters side by side become one token.
      if (unknown && unknown_before) spans[spans.length - 1]!.start = start[end]!
      else spans.push({ start: start[end]!, end })
      unknown_before = unknown
    }
    return spans.reverse()
  }

  #to_tokens(word: string, spans: { start: number; end: number }[]): Token[] {
    const tokens: Token[] = []
    for (const { start, end } of spans) {
      const value = word.slice(start, end)
      const id = this.#ids.get(value)
      const bytes = id === undefined && this.#byte_fallback ? this.#byte_tokens(value) : null
      if (bytes) for (const token of bytes) tokens.push(token)
      else tokens.push({ id: id ?? this.#unknown_id ?? unknown_without_id(value), value })
    }
    return tokens
  }

  #byte_tokens(value: string): Token[] | null {
    const tokens: Token[] = []
    for (const byte of new TextEncoder().encode(value)) {
      const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
      const id = this.#ids.get(name)
      if (id === undefined) return null
      tokens.push({ id, value: name })
    }
    return tokens
  }
}

function unknown_without_id(value: string): never {
  throw new InputError(
    `The vocabulary has no piece for ${JSON.stringify(value)}, and this tokenizer has no unknown token.`,
  )
}
