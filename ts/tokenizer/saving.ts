/** A tokenizer as the files that it can be loaded from again. */

import { write_text_file } from '../utils/files.js'
import { is_record } from '../utils/json.js'
import { type PreTrainedTokenizer, T5Tokenizer } from './pre_trained.js'

/** Names and texts. Files from which nothing was read are left out. */
export function tokenizer_files(tokenizer: PreTrainedTokenizer): Record<string, string> {
  const { definition, config, special_tokens_map, added_tokens } = tokenizer._given
  const settings = { ...(is_record(config.value) ? config.value : {}) }
  // Without a class, what is made of the files again could be another one.
  settings.tokenizer_class ??= tokenizer instanceof T5Tokenizer ? 'T5Tokenizer' : 'PreTrainedTokenizerFast'
  return {
    'tokenizer.json': `${JSON.stringify(definition.value, null, 2)}\n`,
    'tokenizer_config.json': `${JSON.stringify(settings, null, 2)}\n`,
    ...(special_tokens_map && { 'special_tokens_map.json': `${JSON.stringify(special_tokens_map.value, null, 2)}\n` }),
    ...(added_tokens && { 'added_tokens.json': `${JSON.stringify(added_tokens.value, null, 2)}\n` }),
  }
}

export async function save_tokenizer(tokenizer: PreTrainedTokenizer, directory: string): Promise<void> {
  for (const [name, text] of Object.entries(tokenizer_files(tokenizer))) await write_text_file(directory, name, text)
}
