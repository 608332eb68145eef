/** Text of a growing sequence of tokens, each character once and whole. */

import type { StreamerTokenizer } from './streamers.js'

/** What bytes that are no complete character decode to. */
const INCOMPLETE = '\ufffd'

export class IncrementalDecoder {
  readonly #tokenizer: StreamerTokenizer
  #tokens: number[] = []
  /** Tokens before `#start` are no longer looked at; the text of those before `#read` has been given out. */
  #start = 0
  #read = 0

  constructor(tokenizer: StreamerTokenizer) {
    this.#tokenizer = tokenizer
  }

  /** The text that is certain with this token. */
  push(token: number): string {
    this.#tokens.push(token)
    const { before, after } = this.#texts()
    // A last character that lacks bytes becomes another once they are there.
    if (after.length <= before.length || after.endsWith(INCOMPLETE)) return ''
    // A word's text depends on the one before it (whether a space comes between), so that one stays in view.
    this.#start = this.#read
    this.#read = this.#tokens.length
    if (this.#start > 64) this.#forget()
    return after.slice(before.length)
  }

  /** What is left, incomplete characters included. */
  end(): string {
    const { before, after } = this.#texts()
    this.#start = this.#read = this.#tokens.length
    return after.slice(before.length)
  }

  #texts(): { before: string; after: string } {
    const window = this.#tokens.slice(this.#start)
    return { before: this.#decode(window.slice(0, this.#read - this.#start)), after: this.#decode(window) }
  }

  #decode(tokens: number[]): string {
    return tokens.length === 0 ? '' : this.#tokenizer.decode(tokens, { skip_special_tokens: true })
  }

  #forget(): void {
    this.#tokens = this.#tokens.slice(this.#start)
    this.#read -= this.#start
    this.#start = 0
  }
}
