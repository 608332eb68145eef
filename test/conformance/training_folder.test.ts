/**
 * A folder that was trained in Node gives the same outputs everywhere, browsers included. It is that of
 * `train --data pairs.tsv --config small.json --max-steps 1500 --learning-rate 5e-3 --save-dtype float16`: two to six of the
 * letters a to p become the same in capitals, backwards.
 */

import { expect, test } from 'vitest'
import { AutoTokenizer, backend, fixture, read_json, SwitchTransformersForConditionalGeneration } from './library.js'

interface Expected {
  inputs: string[]
  greedy: string[]
  beams: string[]
  loss: number
}

test('a model that was trained in Node', async () => {
  const folder = fixture('training/reversed')
  const { inputs, greedy, beams, loss } = await read_json<Expected>(folder, 'expected.json')
  const tokenizer = await AutoTokenizer.from_pretrained(folder)
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  try {
    const answers = async (options: object) => {
      const ids = await model.generate({ ...tokenizer(inputs, { padding: true }), max_new_tokens: 12, ...options })
      return tokenizer.batch_decode(ids, { skip_special_tokens: true })
    }
    expect(await answers({})).toEqual(greedy)
    expect(await answers({ num_beams: 3 })).toEqual(beams)
    expect(greedy[0]).toBe('CBA')
    const output = await model({ ...tokenizer(['abcd']), labels: [tokenizer.encode('DCBA')] })
    expect(Number(output.loss?.item())).toBeCloseTo(loss, 4)
  } finally {
    await model.dispose()
  }
})
