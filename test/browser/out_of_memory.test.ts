/** What cannot fit in a module's memory ends in an error that says so; the page and its models go on. */

import { expect, test } from 'vitest'
import {
  AutoTokenizer,
  g2p,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
} from './host.js'

const SMALL = { d_kv: 4, d_ff: 8, num_heads: 1, num_layers: 1, num_decoder_layers: 1, num_experts: 1 }
const TOKENS = 30_000

const too_large: [what: string, () => Promise<unknown>, message: RegExp][] = [
  [
    'weights that all but fill the address space',
    () => SwitchTransformersForConditionalGeneration.from_config({ ...SMALL, vocab_size: 1_000_000, d_model: 1060 }),
    /could not allocate 4240000000 bytes/,
  ],
  [
    'weights beyond it',
    () => SwitchTransformersForConditionalGeneration.from_config({ ...SMALL, vocab_size: 1_000_000, d_model: 2000 }),
    /\d/,
  ],
  [
    'logits of a long text',
    async () => {
      const config = { ...SMALL, vocab_size: 32_128, d_model: 8 }
      await using model = await SwitchTransformersForConditionalGeneration.from_config(config)
      await model({ input_ids: [[1]], decoder_input_ids: [Array(TOKENS).fill(5)] })
    },
    /needs about \d+ MiB and 4096 MiB are available/,
  ],
  [
    'attentions of a long text',
    async () => {
      await using model = await SwitchTransformersEncoderModel.from_config({ ...SMALL, vocab_size: 100, d_model: 8 })
      await model({ input_ids: [Array(TOKENS).fill(5)], output_attentions: true })
    },
    /needs about \d+ MiB and 4096 MiB are available/,
  ],
]

test.each(too_large)('%s', async (_, run, message) => {
  const tokenizer = await AutoTokenizer.from_pretrained(g2p)
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(g2p)
  await expect(run()).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: expect.stringMatching(message) })
  const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
  expect(tokenizer.batch_decode(ids, { skip_special_tokens: true })).toEqual(['HH EH1 L OW0'])
})
