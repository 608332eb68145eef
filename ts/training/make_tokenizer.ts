/** `make_tokenizer`, of which only the promise is loaded before it is used. */

import type { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'

export interface MakeTokenizerOptions {
  /**
   * `char`: every character is a token. `word`: frequent words are, and characters spell the others. `pattern`: what a
   * regular expression finds, without the white space between; decoding joins tokens by spaces. Default `char`.
   */
  type?: 'char' | 'word' | 'pattern'
  /** Of `pattern`: one token per match, such as `[A-Z]+[0-9]?|[^A-Z]` for phonemes and letters. */
  pattern?: string
  /** Tokens in all, at most. Default 8192. */
  vocab_size?: number
  /** T5's `<extra_id_N>`, for span corruption. Default 0. */
  sentinels?: number
  /** Default 512. */
  model_max_length?: number
}

/**
 * Makes a tokenizer for these texts: ids 0, 1 and 2 are `<pad>`, `</s>` and `<unk>`, then come the most frequent tokens.
 *
 * @throws {OptionError} naming the option; {InputError} where the texts are empty.
 */
export async function make_tokenizer(
  texts: Iterable<string> | AsyncIterable<string>,
  options: MakeTokenizerOptions = {},
): Promise<PreTrainedTokenizer> {
  return (await import('./tokenizer_maker.js')).tokenizer_of(texts, options)
}
