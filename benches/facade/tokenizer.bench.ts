/** Text to ids and back. */

import { bench, describe } from 'vitest'
import { tokenizer, words } from './embedded.js'

const one = words(1)
const many = words(256)
const ids = tokenizer(many, { padding: true }).input_ids

describe('tokenizer', () => {
  bench('encode 1 word', () => void tokenizer(one))
  bench('encode 256 words, padded', () => void tokenizer(many, { padding: true }))
  bench('decode 256 words', () => void tokenizer.batch_decode(ids, { skip_special_tokens: true }))
})
