/** The text of ids that arrive one by one. */

import { CleanUp } from './clean_up.js'
import { byte_of_token } from './decoders.js'
import { to_id_list } from './id_lists.js'
import type { DecodeOptions } from './options.js'
import type { PreTrainedTokenizer } from './pre_trained.js'

/**
 * Gives the text of each id as soon as nothing that follows can change it. What `push` and `end` give, joined, is what
 * `decode` gives for all ids at once.
 *
 * Each step decodes a window of few tokens: the text of a token can depend on the one before it (whether a space comes
 * between), never on those before that. Bytes of a character that is not whole yet are held back, and so is what the
 * clean-up of spaces could still change.
 */
export class StreamDecoder {
  readonly #tokenizer: PreTrainedTokenizer
  readonly #skip_special_tokens: boolean
  readonly #clean_up: CleanUp | null
  /** Tokens that are looked at: the last one whose text has been given, then those whose text has not. */
  #window: string[] = []
  /** How many of them have been given. */
  #given = 0

  constructor(tokenizer: PreTrainedTokenizer, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer
    this.#skip_special_tokens = options.skip_special_tokens ?? false
    this.#clean_up =
      (options.clean_up_tokenization_spaces ?? tokenizer.clean_up_tokenization_spaces) ? new CleanUp() : null
  }

  /** Takes the next id and gives the text that is certain with it; often one word, sometimes nothing. */
  push(id: number | bigint): string {
    const [number] = to_id_list([id] as number[], 'id') as [number]
    // Tokens that contribute nothing must not take part: the first token that does is decoded differently.
    const token = this.#tokenizer._pipeline.visible(number, this.#skip_special_tokens)
    if (token === undefined) return ''
    this.#window.push(token)
    // Whether bytes make a character shows only where their run ends.
    if (byte_of_token(token) !== null) return ''
    const text = this.#new_text()
    if (text.endsWith('\ufffd')) return ''
    return this.#give(text)
  }

  /** Gives what has been held back. The decoder is then as new. */
  end(): string {
    const text = this.#give(this.#new_text()) + (this.#clean_up?.end() ?? '')
    this.#window = []
    this.#given = 0
    return text
  }

  #new_text(): string {
    const pipeline = this.#tokenizer._pipeline
    // No tokens have no text; but where tokens are joined by spaces, `join([])` and `join([a])` alone do not show it.
    const before = this.#given === 0 ? '' : pipeline.join(this.#window.slice(0, this.#given))
    return this.#window.length === 0 ? '' : pipeline.join(this.#window).slice(before.length)
  }

  #give(text: string): string {
    this.#window = this.#window.slice(-1)
    this.#given = this.#window.length
    return this.#clean_up ? this.#clean_up.push(text) : text
  }
}
