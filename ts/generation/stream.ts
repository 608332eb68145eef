/** `stream`: tokens as they are chosen, as an async iterator. Nothing is computed until somebody asks for the next. */

import { incremental_decoder } from './incremental_decoder.js'
import { type GenerationHost, join_arguments, prepare_generation } from './prepare.js'
import { GenerationSession } from './session.js'

export interface StreamedToken {
  /** The sequence: row of input times `num_return_sequences`, plus which of them. */
  row: number
  token: number
  /**
   * The text that has become certain with this token; joined, a row's texts are its decoded sequence. Empty without a
   * `tokenizer`, and while a character is incomplete.
   */
  text: string
  /**
   * With `output_routes`: for each sparse layer of the decoder, the expert that took the token which this one follows,
   * when this one was chosen; -1 where none had room.
   */
  routes?: number[]
}

/**
 * @throws {OptionError} for beam search, which changes what came before.
 */
export async function* stream(
  host: GenerationHost,
  first: unknown,
  second?: unknown,
): AsyncGenerator<StreamedToken, void, undefined> {
  const prepared = prepare_generation(host, join_arguments(first, second), true)
  const session = await GenerationSession.start(host, prepared)
  try {
    const { tokenizer } = prepared
    const decoders = Array.from({ length: session.rows }, () =>
      tokenizer === null ? null : incremental_decoder(tokenizer),
    )
    const ends = end_tokens(prepared.options.eos_token_id)
    for (let done = false; !done; ) {
      const event = await session.step(false)
      done = event.done
      for (const [index, [row, token]] of event.tokens.entries()) {
        const decoder = decoders[row]
        const last = done || ends.has(token) || event.stopped.includes(row)
        const text = decoder ? decoder.push(token) + (last ? decoder.end() : '') : ''
        const routes = event.routes?.[index]
        yield routes === undefined ? { row, token, text } : { row, token, text, routes: [...routes] }
      }
    }
  } finally {
    // Reached too when the consumer breaks off.
    await session.cancel()
  }
}

function end_tokens(value: unknown): ReadonlySet<unknown> {
  return new Set(Array.isArray(value) ? value : [value])
}
