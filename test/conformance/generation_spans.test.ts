/** fill_spans, and pipelines over a tokenizer with sentinels. The model is random: what is tested is what becomes of its tokens. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  backend,
  failure_of,
  fill_spans,
  fixture,
  type LogitsProcessorFunction,
  type PreTrainedTokenizer,
  pipeline,
  SwitchTransformersForConditionalGeneration,
} from './library.js'

let model: SwitchTransformersForConditionalGeneration
let tokenizer: PreTrainedTokenizer

beforeAll(async () => {
  tokenizer = await AutoTokenizer.from_pretrained(fixture('tokenizer'))
  const config = {
    vocab_size: 2100,
    d_model: 16,
    d_kv: 4,
    d_ff: 16,
    num_heads: 2,
    num_layers: 2,
    num_decoder_layers: 2,
    num_experts: 2,
    decoder_start_token_id: 0,
  }
  model = await SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed: 11 })
})
afterAll(() => model?.dispose())

/** Makes the model say these ids, whatever it thinks. */
function saying(ids: number[]): LogitsProcessorFunction {
  return (input_ids, logits) => {
    const width = logits.dims[1] as number
    for (const [row, sequence] of input_ids.entries())
      logits.data[row * width + (ids[sequence.length - 1] ?? 1)]! += 1e4
  }
}

describe('fill_spans', () => {
  test('numbers the gaps, and puts each span in its place', async () => {
    const words = ['one', 'two'].map((word) => tokenizer.encode(word, { add_special_tokens: false }))
    const [s0, s1, s2] = [0, 1, 2].map((i) => tokenizer.convert_tokens_to_ids(`<extra_id_${i}>`) as number)
    const said = [s0, ...(words[0] as number[]), s1, ...(words[1] as number[]), s2, 1] as number[]
    const options = { logits_processor: saying(said), num_beams: 1, max_new_tokens: said.length } as object
    const [filled] = await fill_spans(model, tokenizer, 'A ___ here and <mask> there', options)
    const spans = words.map((ids) => tokenizer.decode(ids as number[]))
    expect(filled?.spans).toEqual(spans)
    expect(filled?.text).toBe(`A ${spans[0]} here and ${spans[1]} there`)
  })

  test('a gap that the model leaves out stays empty, without a double space', async () => {
    const s1 = tokenizer.convert_tokens_to_ids('<extra_id_1>') as number
    const options = { logits_processor: saying([s1, 1]), num_beams: 1 } as object
    const [filled] = await fill_spans(model, tokenizer, 'a ___ b ___ c', options)
    expect(filled).toMatchObject({ text: 'a b c', spans: ['', ''] })
  })

  test('a span ends at any sentinel, in whatever order the model says them', async () => {
    const words = ['one', 'two', 'three'].map((word) => tokenizer.encode(word, { add_special_tokens: false }))
    const [s0, s1, , , s4] = [0, 1, 2, 3, 4].map((i) => tokenizer.convert_tokens_to_ids(`<extra_id_${i}>`) as number)
    const [one, two, three] = words as [number[], number[], number[]]
    const spans = [two, one].map((ids) => tokenizer.decode(ids))
    for (const said of [
      [s1, ...one, s0, ...two, 1],
      [s0, ...two, s0, ...three, s1, ...one, s4, ...three, 1],
    ] as number[][]) {
      const options = { logits_processor: saying(said), num_beams: 1, max_new_tokens: said.length } as object
      expect((await fill_spans(model, tokenizer, 'a ___ b ___ c', options))[0]?.spans).toEqual(spans)
    }
  })

  test('candidates come best first, each with the score of its tokens', async () => {
    const fill = await pipeline('text2text-generation', model, { tokenizer })
    const candidates = await fill.fill_spans('a ___ b', { num_beams: 4, num_return_sequences: 3, max_new_tokens: 5 })
    expect(candidates).toHaveLength(3)
    const scores = candidates.map(({ score }) => score)
    expect(scores).toEqual([...scores].sort((a, b) => b - a))
    expect(scores.every((score) => score < 0)).toBe(true)
  })

  test("gaps of one's own", async () => {
    const options = { num_beams: 1, max_new_tokens: 2 }
    expect(await fill_spans(model, tokenizer, 'a [?] b', { gap: '[?]', ...options })).toHaveLength(1)
    expect(await fill_spans(model, tokenizer, 'a (1) b (2)', { gap: /\((\d)\)/g, ...options })).toHaveLength(1)
  })

  test.each([
    ['no gap', 'text without', {}, 'INVALID_INPUT'],
    ['no text', 7, {}, 'INVALID_INPUT'],
    ['too many gaps', '___ '.repeat(101), {}, 'INVALID_INPUT'],
    ['an empty gap', 'a ___', { gap: '' }, 'INVALID_OPTION'],
    ['a gap that is no text', 'a ___', { gap: 7 }, 'INVALID_OPTION'],
    ['a wrong option', 'a ___', { num_beams: 0 }, 'INVALID_OPTION'],
    ['an unknown option', 'a ___', { beams: 1 }, 'UNSUPPORTED_OPTION'],
  ])('%s', async (_what, text, options, code) => {
    expect(await failure_of(() => fill_spans(model, tokenizer, text as never, options as never))).toMatchObject({
      code,
    })
  })
})
