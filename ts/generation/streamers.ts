/** Streamers, as in transformers.js: objects that `generate` hands each new token to. */

import { InputError } from '../errors.js'
import { write_stdout } from '../utils/console.js'
import { type IncrementalDecoder, incremental_decoder, type StreamerTokenizer } from './incremental_decoder.js'

export type { StreamerTokenizer } from './incremental_decoder.js'

/** The base of all streamers. */
export abstract class BaseStreamer {
  /** Called with the prompt first, one row of ids per sequence, and then with each step's new tokens. */
  abstract put(value: bigint[][]): void | Promise<void>
  /** Called once, after the last token. */
  abstract end(): void | Promise<void>
}

export interface TextStreamerOptions {
  /** Leave out the prompt (for these models, the decoder's start token). Default false. */
  skip_prompt?: boolean
  /** Leave out special tokens. Default true. */
  skip_special_tokens?: boolean
  /** Gets each piece of text that can no longer change. Default: writes it to standard output, or the console. */
  callback_function?: ((text: string) => void) | null
  /** Gets each step's ids before they are decoded. */
  token_callback_function?: ((ids: bigint[]) => void) | null
  /** More options for the tokenizer's `decode`. */
  decode_kwargs?: Record<string, unknown>
}

/**
 * Hands on the text of one sequence as soon as words are complete. A character that takes several tokens comes out
 * whole; so does the space before a word that more tokens may still extend.
 */
export class TextStreamer extends BaseStreamer {
  readonly tokenizer: StreamerTokenizer
  readonly #skip_prompt: boolean
  readonly #callback: ((text: string) => void) | null
  readonly #token_callback: ((ids: bigint[]) => void) | null
  readonly #decode_options: Record<string, unknown>
  readonly #special: ReadonlySet<number>
  readonly #to_stdout: boolean
  readonly #decoder: IncrementalDecoder
  /** Text that more tokens may still extend. */
  #pending = ''
  #prompt_next = true

  constructor(tokenizer: StreamerTokenizer, options: TextStreamerOptions & Record<string, unknown> = {}) {
    super()
    const { skip_prompt, skip_special_tokens, callback_function, token_callback_function, decode_kwargs, ...more } =
      options
    this.tokenizer = tokenizer
    this.#skip_prompt = skip_prompt ?? false
    this.#to_stdout = callback_function === undefined || callback_function === null
    this.#callback = callback_function ?? write_stdout
    this.#token_callback = token_callback_function ?? null
    this.#decode_options = { skip_special_tokens: skip_special_tokens ?? true, ...decode_kwargs, ...more }
    this.#special = new Set(tokenizer.all_special_ids.map(Number))
    this.#decoder = incremental_decoder(tokenizer, this.#decode_options)
  }

  put(value: bigint[][]): void {
    if (value.length !== 1)
      throw new InputError(`TextStreamer follows one sequence, and got ${value.length}. Stream one row.`)
    const is_prompt = this.#prompt_next
    this.#prompt_next = false
    if (is_prompt && this.#skip_prompt) return
    const ids = value[0] as bigint[]
    this.#token_callback?.(ids)
    for (const id of ids) this.#push(Number(id))
    if (is_prompt) this.#flush()
  }

  end(): void {
    this.#prompt_next = true
    this.on_finalized_text(this.#rest(), true)
  }

  /** Called with each piece of text that is certain. Override to do something else with it. */
  on_finalized_text(text: string, stream_end: boolean): void {
    if (text.length > 0) this.#callback?.(text)
    if (stream_end && this.#to_stdout) this.#callback?.('\n')
  }

  #push(id: number): void {
    if (this.#special.has(id)) {
      if (this.#decode_options.skip_special_tokens) return
      this.#flush()
      this.on_finalized_text(this.tokenizer.decode([id], this.#decode_options), false)
      return
    }
    this.#pending += this.#decoder.push(id)
    const certain = this.#pending.endsWith('\n') ? this.#pending.length : certain_length(this.#pending)
    if (certain === 0) return
    this.on_finalized_text(this.#pending.slice(0, certain), false)
    this.#pending = this.#pending.slice(certain)
  }

  #flush(): void {
    const text = this.#rest()
    if (text.length > 0) this.on_finalized_text(text, false)
  }

  /** What has been held back. */
  #rest(): string {
    const text = this.#pending + this.#decoder.end()
    this.#pending = ''
    return text
  }
}

/** How much of a text no later token can change: all of it after a Chinese character, else up to the last space. */
export function certain_length(text: string): number {
  const characters = [...text.slice(-2)]
  const last = characters[characters.length - 1]
  if (last !== undefined && is_cjk(last.codePointAt(0) as number)) return text.length
  return text.lastIndexOf(' ') + 1
}

/** The CJK ideograph blocks, whose characters are words of their own. */
function is_cjk(code: number): boolean {
  return (
    (code >= 0x4e00 && code <= 0x9fff) ||
    (code >= 0x3400 && code <= 0x4dbf) ||
    (code >= 0x20000 && code <= 0x2fa1f) ||
    (code >= 0xf900 && code <= 0xfaff)
  )
}
