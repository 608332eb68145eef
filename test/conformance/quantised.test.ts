/** Quantised checkpoints: the same files on every backend, near what they stand for, and quantising while loading. */

import { describe, expect, test } from 'vitest'
import {
  backend,
  estimate_memory,
  failure_of,
  fixture,
  g2p,
  read_json,
  relative_error,
  rows_of,
  SwitchTransformersConfig,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
} from './library.js'

const load = (folder: string, options = {}) =>
  SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend, ...options })
const base = fixture('parity/base')

async function logits(model: SwitchTransformersForConditionalGeneration): Promise<Tensor> {
  const { logits } = await model.forward({
    input_ids: [
      [5, 6, 7, 8, 90, 17, 1],
      [44, 81, 3, 1, 0, 0, 0],
    ],
    attention_mask: [
      [1, 1, 1, 1, 1, 1, 1],
      [1, 1, 1, 1, 0, 0, 0],
    ],
    decoder_input_ids: [
      [0, 5, 9, 30],
      [0, 7, 3, 99],
    ],
  })
  return logits
}

describe.each(['int8', 'int4'] as const)('a checkpoint in %s', (dtype) => {
  const folder = fixture(`quantised/${dtype}`)

  test('computes nearly what its values widened to float32 do', async () => {
    await using model = await load(folder)
    expect(model.dtype).toBe(dtype)
    await using wide = await load(folder, { dtype: 'float32' })
    expect(wide.dtype).toBe('float32')
    expect(wide.config.quantization_config).toBeUndefined()
    expect(model.weight_bytes).toBeLessThan(wide.weight_bytes / (dtype === 'int8' ? 3 : 3.5))
    const [narrow, expected] = [await logits(model), await logits(wide)]
    expect(narrow.data.some((x) => Number.isNaN(x))).toBe(false)
    // Activations are rounded to 8 bits at every product, and a token near a tie may go to another expert.
    expect(relative_error(narrow, expected)).toBeLessThan(0.1)
    expect(relative_error(expected, narrow)).toBeGreaterThan(0)
  })

  test('is what quantising the source while loading gives, to the bit', async () => {
    await using stored = await load(folder)
    await using fresh = await load(base, { dtype })
    expect(fresh.config.quantization_config).toEqual(stored.config.quantization_config)
    expect(fresh.weight_bytes).toBe(stored.weight_bytes)
    expect((await logits(fresh)).data).toEqual((await logits(stored)).data)
  })

  test('generates, greedily and by beams, with a cache as without', async () => {
    await using model = await load(folder)
    const input = { input_ids: [[5, 6, 7, 8, 1]], max_new_tokens: 10 }
    const cached = rows_of(await model.generate(input))
    expect(rows_of(await model.generate({ ...input, use_cache: false }))).toEqual(cached)
    expect(cached[0]?.length).toBeGreaterThan(2)
    expect(rows_of(await model.generate({ ...input, num_beams: 3 }))[0]?.length).toBeGreaterThan(2)
  })

  test('serves the classes of its parts, and its parameters as float32', async () => {
    await using encoder = await SwitchTransformersEncoderModel.from_pretrained(folder, { backend })
    const { last_hidden_state } = await encoder.forward({ input_ids: [[5, 6, 7]] })
    expect(last_hidden_state.dims).toEqual([1, 3, 32])
    const name = 'encoder.block.0.layer.0.SelfAttention.q.weight'
    await using source_model = await load(base)
    const [stored, source] = [await encoder.state_dict([name]), await source_model.state_dict([name])]
    expect(relative_error(stored[name] as Tensor, source[name] as Tensor)).toBeLessThan(dtype === 'int8' ? 0.01 : 0.12)
  })
})

test('mixed keeps attention, embedding and head in int8 and the feed-forward layers in int4', async () => {
  await using model = await load(base, { dtype: 'mixed' })
  expect(model.config.quantization_config).toEqual({
    quant_method: 'switch-transformers',
    version: 1,
    group_size: 32,
    weights: { embedding: 'int8', head: 'int8', attention: 'int8', dense: 'int4', experts: 'int4' },
  })
  await using int8 = await load(base, { dtype: 'int8' })
  await using int4 = await load(base, { dtype: 'int4' })
  expect(model.weight_bytes).toBeLessThan(int8.weight_bytes)
  expect(model.weight_bytes).toBeGreaterThan(int4.weight_bytes)
})

test('another quantised form than the stored one, and a float one, are made from it', async () => {
  await using model = await load(fixture('quantised/int8'), { dtype: 'int4' })
  expect(model.config.quantization_config).toMatchObject({ weights: { attention: 'int4' } })
  await using half = await load(fixture('quantised/int8'), { dtype: 'bfloat16' })
  expect(half.dtype).toBe('bfloat16')
  await using wide = await load(fixture('quantised/int8'), { dtype: 'float32' })
  expect(relative_error(await logits(half), await logits(wide))).toBeLessThan(0.02)
})

test('random weights can be quantised at once', async () => {
  const config = (await read_json<Record<string, unknown>>(base, 'config.json')) as Record<string, unknown>
  await using model = await SwitchTransformersForConditionalGeneration.from_config(config, {
    backend,
    dtype: 'int8',
    seed: 3,
  })
  expect(model.dtype).toBe('int8')
  expect(model.config.quantization_config).toBeDefined()
  await using wide = await SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed: 3 })
  expect(relative_error(await logits(model), await logits(wide))).toBeLessThan(0.3)
})

test('the embedded model in int8 says what it says in float16', async () => {
  await using model = await load(g2p, { dtype: 'int8' })
  await using source = await load(g2p)
  expect(model.weight_bytes).toBeLessThan(source.weight_bytes * 0.52)
  const input = { input_ids: [[12, 9, 16, 16, 19, 1]], max_new_tokens: 20 }
  expect(rows_of(await model.generate(input))).toEqual(rows_of(await source.generate(input)))
})

describe('refused', () => {
  const config = async () => read_json<Record<string, unknown>>(fixture('quantised/int8'), 'config.json')
  const field = { quant_method: 'switch-transformers', version: 1, group_size: 32 }
  const weights = { embedding: 'int8', head: 'int8', attention: 'int8', dense: 'int8', experts: 'int8' }

  test.each([
    ['another method', { quant_method: 'bitsandbytes', load_in_8bit: true }, 'quant_method'],
    ['a later version', { ...field, version: 2, weights }, 'version'],
    ['a group that no kernel has', { ...field, group_size: 33, weights }, 'group_size'],
    ['a huge group', { ...field, group_size: 2 ** 60, weights }, 'group_size'],
    ['no weights', field, 'weights'],
    ['an unknown role', { ...field, weights: { ...weights, router: 'int8' } }, 'router'],
    ['an unknown form', { ...field, weights: { ...weights, dense: 'int2' } }, 'dense'],
    ['a string', 'int8', 'quant_method'],
  ])('%s, as INVALID_CONFIG', async (_, quantization_config, word) => {
    const error = await failure_of(async () =>
      load(fixture('quantised/int8'), { config: { ...(await config()), quantization_config } }),
    )
    expect(error.code).toBe('INVALID_CONFIG')
    expect(error.message).toContain(word)
  })

  test('a config that says other forms than the tensors have', async () => {
    const quantization_config = { ...field, weights: { ...weights, experts: 'int4' } }
    const error = await failure_of(async () =>
      load(fixture('quantised/int8'), { config: { ...(await config()), quantization_config } }),
    )
    expect(error.code).toBe('CHECKPOINT_MISMATCH')
    expect(error.message).toContain('found I8, expected U8')
  })

  test('a config that says nothing of it, and one that says it of a float checkpoint', async () => {
    const { quantization_config, ...plain } = await config()
    const silent = await failure_of(() =>
      load(fixture('quantised/int8'), { config: new SwitchTransformersConfig(plain) }),
    )
    expect(silent.code).toMatch(/CHECKPOINT_(MISMATCH|UNSUPPORTED)/)
    const float = await failure_of(() => load(base, { config: { ...plain, quantization_config } }))
    expect(float.code).toBe('CHECKPOINT_MISMATCH')
    expect(float.message).toContain('expected I8')
  })
})

test('memory is estimated for quantised weights', async () => {
  await using model = await load(fixture('quantised/int8'))
  const { weights } = estimate_memory(model.config, { dtype: 'int8' })
  expect(weights).toBe(model.num_parameters())
  expect(estimate_memory(model.config).weights).toBeLessThan(weights)
})
