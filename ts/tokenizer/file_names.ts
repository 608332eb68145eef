/** The files that a tokenizer may consist of, and their bytes as a repository has them. */

import type { Repository } from '../hub/index.js'

export const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'spiece.model',
]

/** Those that are there, by name. */
export async function tokenizer_file_bytes(repository: Repository): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>()
  for (const file of TOKENIZER_FILES) {
    const bytes = await repository.read(file)
    // Its buffer may be the repository's.
    if (bytes !== null) found.set(file, bytes.slice())
  }
  return found
}
