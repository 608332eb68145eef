/** What a call of a tokenizer takes and gives. */

import { OptionError } from '../errors.js'
import type { Tensor } from '../tensor.js'
import type { PlanOptions } from './padding.js'

export interface TokenizerOptions extends PlanOptions {
  /** A second text, or one for each text of a batch. */
  text_pair?: string | readonly string[] | null
  /** Whether to add the end token and its like. `true` by default. */
  add_special_tokens?: boolean
  /** `true` or `'longest'`: to the longest row; `'max_length'`: to `max_length`, or the model's. `false` by default. */
  padding?: PlanOptions['padding']
  /**
   * `true` or `'longest_first'`, `'only_first'`, `'only_second'`: cut rows to `max_length`, or the model's. By default
   * rows are cut only where `max_length` is given and `padding` is not.
   */
  truncation?: PlanOptions['truncation']
  /** Length in tokens, special tokens included. */
  max_length?: number | null
  /** Rows are padded to a multiple of this. */
  pad_to_multiple_of?: number | null
  /** The side on which padding goes. The tokenizer's own by default, which is the right. */
  padding_side?: 'left' | 'right'
  /** Whether results are int64 tensors of shape [rows, length] (the default) or plain arrays. */
  return_tensor?: boolean
  /** Whether to return `token_type_ids`. By default where the config's `model_input_names` has them. */
  return_token_type_ids?: boolean | null
  /** Whether to return `attention_mask`. By default where the config's `model_input_names` has it. */
  return_attention_mask?: boolean | null
}

const OPTIONS: ReadonlySet<string> = new Set<keyof TokenizerOptions>([
  'text_pair',
  'add_special_tokens',
  'padding',
  'truncation',
  'max_length',
  'pad_to_multiple_of',
  'padding_side',
  'return_tensor',
  'return_token_type_ids',
  'return_attention_mask',
])

/** Throws UNSUPPORTED_OPTION for options that would otherwise be ignored without a word. */
export function check_options(options: object): void {
  for (const name of Object.keys(options)) {
    if (!OPTIONS.has(name)) {
      throw new OptionError(
        'UNSUPPORTED_OPTION',
        `The tokenizer has no option ${name}; it has ${[...OPTIONS].join(', ')}.`,
      )
    }
  }
}

/** Ids and masks of one text (`number[]`), of a batch (`number[][]`), or of either as tensors. */
export interface BatchEncoding<T = Tensor<'int64'>> {
  input_ids: T
  /** 1 for tokens, 0 for padding. */
  attention_mask: T
  token_type_ids?: T
}

export interface DecodeOptions {
  /** Leave special tokens out. `false` by default. */
  skip_special_tokens?: boolean
  /** Remove the spaces before punctuation and contractions. By default what the config says, else `false`. */
  clean_up_tokenization_spaces?: boolean
}
