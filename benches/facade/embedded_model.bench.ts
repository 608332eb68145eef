/** The embedded model from text to text, on each backend: tokenise and encode, generate, and what streaming adds. */

import { afterAll, bench, describe } from 'vitest'
import { load, tokenizer, words } from './embedded.js'

/** No result of another length is timed. */
const NEW_TOKENS = 16
const FIXED = { min_new_tokens: NEW_TOKENS, max_new_tokens: NEW_TOKENS }

describe.each(['native', 'wasm'] as const)('embedded model, %s', async (backend) => {
  const model = await load(backend)
  afterAll(() => model.dispose())
  const batch = (count: number) => tokenizer(words(count), { padding: true })

  async function generate(count: number) {
    const sequences = await model.generate({ ...batch(count), ...FIXED })
    if (sequences.dims[1] !== NEW_TOKENS + 1) throw new Error(`found ${sequences.dims[1]} tokens`)
  }

  bench('tokenise and score 64 words', async () => {
    const { input_ids, attention_mask } = batch(64)
    await model.forward({ input_ids, attention_mask, decoder_input_ids: Array.from({ length: 64 }, () => [0]) })
  })
  bench(`generate ${NEW_TOKENS} tokens, 1 word`, () => generate(1))
  bench(`generate ${NEW_TOKENS} tokens, 64 words`, () => generate(64))
  bench(`stream ${NEW_TOKENS} tokens, 1 word`, async () => {
    let count = 0
    for await (const _ of model.stream({ ...batch(1), ...FIXED })) count += 1
    if (count === 0) throw new Error('nothing was streamed')
  })
  bench('load', async () => {
    await using _ = await load(backend)
  })
})
