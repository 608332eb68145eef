/** Bad inputs: each a typed error, and the model generates as before afterwards. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  failure_of,
  fixture,
  read_json,
  read_tensors,
  rows_of,
  SwitchTransformersForConditionalGeneration,
  SwitchTransformersSparseMLP,
  SwitchTransformersTop1Router,
  Tensor,
} from './library.js'

const folder = fixture('parity/base')
let model: SwitchTransformersForConditionalGeneration
let inputs: Map<string, Tensor>
let greedy: number[][]

async function expect_healthy() {
  const ids = await model.generate({
    input_ids: inputs.get('input_ids') as Tensor,
    attention_mask: inputs.get('attention_mask') as Tensor,
    max_new_tokens: 12,
  })
  expect(rows_of(ids)).toEqual(greedy)
}

beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  inputs = await read_tensors(folder, 'inputs.safetensors')
  greedy = (await read_json<{ sequences: number[][] }[]>(folder, 'generation.json'))[0]?.sequences ?? []
})
afterAll(() => model?.dispose())
// The point of every test here: the process and the model go on.
afterEach(expect_healthy)

const BAD_IDS: [what: string, ids: unknown][] = [
  ['out of range', [[5, 120]]],
  ['far out of range', [[2 ** 40]]],
  ['negative', [[5, -1]]],
  ['fractional', [[5, 1.5]]],
  ['NaN', [[Number.NaN]]],
  ['infinite', [[Number.POSITIVE_INFINITY]]],
  ['huge bigints', [[2n ** 80n]]],
  ['empty', []],
  ['an empty row', [[]]],
  ['a zero-length tensor', new Tensor('int64', [], [1, 0])],
  ['ragged', [[1, 2], [3]]],
  ['text', [['five']]],
  ['nulls', [[null]]],
  ['nested too deep', [[[1, 2]]]],
  ['a string', 'hello'],
  ['a number', 5],
  ['a float tensor with fractions', new Tensor('float32', [0.5], [1, 1])],
  ['data that is shorter than its shape', { data: new Int32Array(3), dims: [2, 2] }],
  ['dims that overflow', { data: new Int32Array(3), dims: [2 ** 40, 2 ** 40] }],
]

describe('ids', () => {
  test.each(BAD_IDS)('%s: generate', async (_what, input_ids) => {
    const error = await failure_of(() => model.generate({ input_ids: input_ids as never, max_new_tokens: 2 }))
    expect(error.code).toBe('INVALID_INPUT')
    expect(error.message).toContain('input_ids')
  })

  test.each(BAD_IDS)('%s: forward, as encoder and as decoder input', async (_what, ids) => {
    for (const name of ['input_ids', 'decoder_input_ids'] as const) {
      const given = { input_ids: [[1, 2]], decoder_input_ids: [[0]], [name]: ids }
      const error = await failure_of(() => model.forward(given as never))
      expect(error.code).toBe('INVALID_INPUT')
      expect(error.message).toContain(name)
    }
  })

  test('labels below 0 other than -100', async () => {
    const error = await failure_of(() => model.forward({ input_ids: [[1]], labels: [[-100, -1]] }))
    expect(error).toMatchObject({ code: 'INVALID_INPUT' })
  })
})

describe('masks', () => {
  test.each([
    ['of another length', [[1, 1, 1]]],
    [
      'of other rows',
      [
        [1, 1],
        [1, 1],
      ],
    ],
    ['all zero', [[0, 0]]],
    ['of other numbers', [[1, 2]]],
    ['fractional', [[1, 0.5]]],
    ['empty', []],
    ['text', [['a', 'b']]],
  ])('%s', async (_what, attention_mask) => {
    for (const run of [
      () => model.generate({ input_ids: [[5, 6]], attention_mask: attention_mask as never, max_new_tokens: 2 }),
      () => model.forward({ input_ids: [[5, 6]], attention_mask: attention_mask as never, decoder_input_ids: [[0]] }),
      () =>
        model.forward({
          input_ids: [[5]],
          decoder_input_ids: [[0, 1]],
          decoder_attention_mask: attention_mask as never,
        }),
    ]) {
      const error = await failure_of(run)
      expect(error.code).toBe('INVALID_INPUT')
      expect(error.message).toContain('attention_mask')
    }
  })
})

describe('shapes that contradict each other', () => {
  test.each([
    ['rows of the decoder', { input_ids: [[1], [2]], decoder_input_ids: [[0]] }],
    ['rows of the labels', { input_ids: [[1], [2]], labels: [[3]] }],
    ['lengths of labels and decoder', { input_ids: [[1]], labels: [[3, 4]], decoder_input_ids: [[0]] }],
    ['ids and embeddings', { input_ids: [[1]], inputs_embeds: [[new Array(32).fill(0)]], decoder_input_ids: [[0]] }],
    ['neither ids nor embeddings', { decoder_input_ids: [[0]] }],
    ['no decoder input', { input_ids: [[1]] }],
    ['width of embeddings', { inputs_embeds: [[[1, 2, 3]]], decoder_input_ids: [[0]] }],
    ['width of encoder_outputs', { encoder_outputs: [[[1, 2, 3]]], decoder_input_ids: [[0]] }],
    ['past_key_values of something else', { input_ids: [[1]], decoder_input_ids: [[0]], past_key_values: {} }],
    ['no inputs', undefined],
    ['a list of inputs', [1, 2]],
  ])('%s', async (_what, given) => {
    expect(await failure_of(() => model.forward(given as never))).toMatchObject({ code: 'INVALID_INPUT' })
  })

  test('arguments that forward does not have are named', async () => {
    const error = await failure_of(() =>
      model.forward({ input_ids: [[1]], decoder_input_ids: [[0]], head_mask: [[1]] } as never),
    )
    expect(error.code).toBe('UNSUPPORTED_OPTION')
    expect(error.message).toContain('head_mask')
    const wrong_flag = await failure_of(() =>
      model.forward({ input_ids: [[1]], decoder_input_ids: [[0]], output_attentions: 'yes' } as never),
    )
    expect(wrong_flag).toMatchObject({ code: 'INVALID_OPTION' })
  })
})

describe('modules', () => {
  const bad: [string, unknown][] = [
    ['another width', [[[1, 2]]]],
    ['two dimensions', [[1, 2]]],
    ['empty', [[[]]]],
    ['ragged', [[new Array(8).fill(0)], []]],
    ['text', 'x'],
    ['nothing', undefined],
  ]
  test.each(bad)('%s', async (_what, hidden_states) => {
    await using router = await SwitchTransformersTop1Router.from_pretrained(fixture('modules/router'), { backend })
    await using mlp = await SwitchTransformersSparseMLP.from_pretrained(fixture('modules/sparse-mlp'), { backend })
    for (const module of [router, mlp]) {
      expect(await failure_of(() => module.forward(hidden_states as never))).toMatchObject({ code: 'INVALID_INPUT' })
    }
  })
})

describe('options of from_pretrained', () => {
  test.each([
    [{ dtype: 'q4' }, 'UNSUPPORTED_OPTION'],
    [{ dtype: 16 }, 'INVALID_OPTION'],
    [{ device: 'webgpu' }, 'UNSUPPORTED_OPTION'],
    [{ device: 7 }, 'INVALID_OPTION'],
    [{ backend: 'gpu' }, 'INVALID_OPTION'],
    [{ quantized: true }, 'UNSUPPORTED_OPTION'],
    // Tests run where there is no GPU, or with an addon without CUDA.
    [{ device: 'cuda' }, 'BACKEND_UNAVAILABLE'],
  ])('%j', async (options, code) => {
    const error = await failure_of(() =>
      SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend, ...options } as never),
    )
    expect(error.code).toBe(code)
    expect(error.message).toContain(Object.keys(options)[0])
  })

  test('a config with absurd sizes is refused before anything is made of it', async () => {
    const config = { d_model: 2 ** 24, vocab_size: 2 ** 24, num_layers: 4096 }
    expect(
      await failure_of(() => SwitchTransformersForConditionalGeneration.from_config(config, { backend })),
    ).toMatchObject({ code: 'INVALID_CONFIG' })
  })

  test('a config that only memory refuses', async () => {
    // 2^40 elements in the embeddings alone: each dimension is possible, the model is not.
    const config = {
      vocab_size: 2 ** 20,
      d_model: 2 ** 20,
      d_ff: 8,
      num_layers: 1,
      num_decoder_layers: 1,
      num_heads: 1,
      d_kv: 8,
    }
    const error = await failure_of(() => SwitchTransformersForConditionalGeneration.from_config(config, { backend }))
    expect(['OUT_OF_MEMORY', 'INVALID_CONFIG']).toContain(error.code)
  })

  test('a config that contradicts the weights names every tensor', async () => {
    const config = await read_json<Record<string, unknown>>(folder, 'config.json')
    const error = await failure_of(() =>
      SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend, config: { ...config, d_ff: 50 } }),
    )
    expect(error.code).toBe('CHECKPOINT_MISMATCH')
    expect(error.message).toContain('wi')
  })
})
