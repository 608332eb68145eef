/** The embedded model and its tokenizer, and words to give them. */

import { AutoTokenizer, embedded_model_path, SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'

const WORDS = ['expert', 'router', 'capacity', 'token', 'transformer', 'switch', 'decoder', 'attention']

/** So many words, all different only as far as there are some. */
export const words = (count: number) => Array.from({ length: count }, (_, i) => WORDS[i % WORDS.length] as string)

export const tokenizer = await AutoTokenizer.from_pretrained(embedded_model_path())

export const load = (backend: 'native' | 'wasm') =>
  SwitchTransformersForConditionalGeneration.from_pretrained(embedded_model_path(), { backend })
