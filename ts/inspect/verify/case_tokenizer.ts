/** The tokenizer of a folder, reduced to what verification asks of it. */

import { AutoTokenizer } from '../../tokenizer/index.js'
import type { CaseTokenizer } from './tokenizer.js'

export async function load_case_tokenizer(folder: string): Promise<CaseTokenizer> {
  const tokenizer = await AutoTokenizer.from_pretrained(folder, { local_files_only: true })
  return {
    encode: (text, options = {}) => tokenizer(text, { ...options, return_tensor: false }) as { input_ids: number[] },
    encode_batch: (texts, options) =>
      tokenizer(texts, { ...options, return_tensor: false }) as { input_ids: number[][]; attention_mask: number[][] },
    decode: (ids, options) => tokenizer.decode(ids, options),
  }
}
