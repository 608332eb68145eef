/** `stream`: tokens as they are chosen, as an async iterator. Nothing is computed until somebody asks for the next. */

import { OptionError } from '../errors.js'
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
}

/**
 * @throws {OptionError} for beam search, which changes what came before.
 */
export async function* stream(
  host: GenerationHost,
  first: unknown,
  second?: unknown,
): AsyncGenerator<StreamedToken, void, undefined> {
  const prepared = prepare_generation(host, join_arguments(first, second))
  if (typeof prepared.options.num_beams === 'number' && prepared.options.num_beams > 1) {
    throw new OptionError(
      'INVALID_OPTION',
      'num_beams must be 1 to stream: beam search changes what came before. Use generate.',
      {
        details: { option: 'num_beams' },
      },
    )
  }
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
      for (const [row, token] of event.tokens) {
        const decoder = decoders[row]
        const text = decoder ? decoder.push(token) + (done || ends.has(token) ? decoder.end() : '') : ''
        yield { row, token, text }
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
