/** Text of a growing sequence of tokens, each character once and whole. */

import { PreTrainedTokenizer, StreamDecoder } from '../tokenizer/index.js'

/** What is needed of a tokenizer to follow a generation: those of this library and of transformers.js have it. */
export interface StreamerTokenizer {
  decode(token_ids: number[], options?: Record<string, unknown>): string
  readonly all_special_ids: readonly number[]
}

/** Gives the text of tokens as soon as it is certain. */
export interface IncrementalDecoder {
  push(token: number): string
  /** What is left, incomplete characters included. */
  end(): string
}

/** A decoder over any tokenizer. `options` are those of `decode`. */
export function incremental_decoder(
  tokenizer: StreamerTokenizer,
  options: Record<string, unknown> = { skip_special_tokens: true },
): IncrementalDecoder {
  return (tokenizer as unknown) instanceof PreTrainedTokenizer
    ? new StreamDecoder(tokenizer as unknown as PreTrainedTokenizer, options)
    : new WindowDecoder(tokenizer, options)
}

/** What bytes that are no complete character decode to. */
const INCOMPLETE = '\ufffd'

/** For tokenizers of other libraries, of which only `decode` is known. */
class WindowDecoder implements IncrementalDecoder {
  readonly #tokenizer: StreamerTokenizer
  readonly #options: Record<string, unknown>
  /** Tokens whose text has been given and that stay in view, since a word's text depends on the one before it. */
  #given: number[] = []
  #pending: number[] = []

  constructor(tokenizer: StreamerTokenizer, options: Record<string, unknown>) {
    this.#tokenizer = tokenizer
    this.#options = options
  }

  push(token: number): string {
    this.#pending.push(token)
    const text = this.#new_text()
    // A last character that lacks bytes becomes another once they are there.
    if (text === '' || text.endsWith(INCOMPLETE)) return ''
    return this.#give(text)
  }

  end(): string {
    const text = this.#give(this.#new_text())
    this.#given = []
    return text
  }

  #give(text: string): string {
    if (this.#pending.length > 0) this.#given = this.#pending
    this.#pending = []
    return text
  }

  #new_text(): string {
    return this.#decode([...this.#given, ...this.#pending]).slice(this.#decode(this.#given).length)
  }

  #decode(tokens: number[]): string {
    return tokens.length === 0 ? '' : this.#tokenizer.decode(tokens, this.#options)
  }
}
