/** Files of texts with their expected encodings, beside the tokenizer that is to make them. */

import { InputError } from '../../errors.js'
import { is_record, show } from '../../utils/json.js'
import { type Check, failed, passed } from './report.js'
import { list_of } from './values.js'

export interface EncodeOptions {
  text_pair?: string
  padding?: boolean | 'max_length'
  truncation?: boolean
  max_length?: number
}

/** What verification needs of a tokenizer. */
export interface CaseTokenizer {
  encode(text: string, options?: EncodeOptions): { input_ids: number[] }
  encode_batch(texts: string[], options: EncodeOptions): { input_ids: number[][]; attention_mask: number[][] }
  decode(ids: number[], options: { skip_special_tokens: boolean }): string
}

/** One check per text, per pair and for the batch. Everything must be equal. */
export function verify_tokenizer(json: Record<string, unknown>, file: string, tokenizer: CaseTokenizer): Check[] {
  const checks = list_of(json, 'encodings', file).map((entry, i) => verify_text(object(entry, i, file), tokenizer))
  if (json.pairs !== undefined) {
    for (const [i, entry] of list_of(json, 'pairs', file).entries()) {
      const { text, text_pair, input_ids } = object(entry, i, file)
      const name = `pair ${show(text)}, ${show(text_pair)}`
      checks.push(
        attempt(name, () =>
          differing('input_ids', tokenizer.encode(String(text), { text_pair: String(text_pair) }).input_ids, input_ids),
        ),
      )
    }
  }
  if (is_record(json.batch)) checks.push(verify_batch(json.batch, file, tokenizer))
  return checks
}

function verify_text(entry: Record<string, unknown>, tokenizer: CaseTokenizer): Check {
  const { text, input_ids, decoded, decoded_skip_special } = entry
  return attempt(show(text), () => {
    const ids = tokenizer.encode(String(text)).input_ids
    const expected_ids = Array.isArray(input_ids) ? (input_ids as number[]) : []
    return (
      differing('input_ids', ids, input_ids) ??
      // Decoding is judged on the expected ids, so that it does not depend on encoding.
      optional('decoded', () => tokenizer.decode(expected_ids, { skip_special_tokens: false }), decoded) ??
      optional(
        'decoded_skip_special',
        () => tokenizer.decode(expected_ids, { skip_special_tokens: true }),
        decoded_skip_special,
      )
    )
  })
}

function verify_batch(batch: Record<string, unknown>, file: string, tokenizer: CaseTokenizer): Check {
  const texts = list_of(batch, 'texts', `"batch" of ${file}`).map(String)
  const { texts: _, input_ids, attention_mask, ...options } = batch
  return attempt(`batch of ${texts.length}`, () => {
    const actual = tokenizer.encode_batch(texts, options as EncodeOptions)
    return (
      differing('input_ids', actual.input_ids, input_ids) ??
      differing('attention_mask', actual.attention_mask, attention_mask)
    )
  })
}

function attempt(name: string, difference: () => string | undefined): Check {
  try {
    const detail = difference()
    return detail === undefined ? passed('tokenization', name) : failed('tokenization', name, detail)
  } catch (error) {
    return failed('tokenization', name, error instanceof Error ? error.message : String(error))
  }
}

/** What differs, in words; undefined when nothing does. */
function differing(what: string, actual: unknown, expected: unknown): string | undefined {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)]
  return a === e ? undefined : `${what}: ${a}, expected ${e}`
}

function optional(what: string, actual: () => string, expected: unknown): string | undefined {
  return expected === undefined ? undefined : differing(what, actual(), expected)
}

function object(entry: unknown, i: number, file: string): Record<string, unknown> {
  if (is_record(entry)) return entry
  throw new InputError(`Entry ${i} of ${file} must be an object, not ${show(entry)}.`)
}
