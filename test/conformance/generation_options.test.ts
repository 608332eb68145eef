/** Every option with every kind of wrong value, and options that contradict each other: refused by name, and no harm done. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  failure_of,
  fixture,
  GenerationConfig,
  rows_of,
  SwitchTransformersForConditionalGeneration,
} from './library.js'

let model: SwitchTransformersForConditionalGeneration
let healthy: number[][]
const input_ids = [[5, 6, 7, 8]]

beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(fixture('parity/base'), { backend })
  healthy = rows_of(await model.generate({ input_ids, max_new_tokens: 6 }))
})
afterAll(async () => {
  expect(rows_of(await model.generate({ input_ids, max_new_tokens: 6 }))).toEqual(healthy)
  await model?.dispose()
})

const NOT_COUNTS = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '3', true, [3], {}]
const NOT_FLAGS = [1, 'yes', [], {}, Number.NaN]
const NOT_NUMBERS = [Number.NaN, Number.POSITIVE_INFINITY, '1', true, [1], {}]
const NOT_TOKENS = [-5, 120, 2 ** 40, 1.5, Number.NaN, '1', true, {}]
const NOT_TOKEN_LISTS = [[], [120], [-1], [1.5], 'x', 7, [[1]], [Number.NaN]]

const WRONG: Record<string, unknown[]> = {
  max_length: [0, ...NOT_COUNTS],
  max_new_tokens: [0, ...NOT_COUNTS],
  min_length: NOT_COUNTS,
  min_new_tokens: NOT_COUNTS,
  early_stopping: [1, 'always', Number.NaN],
  max_time: [-1, ...NOT_NUMBERS],
  stop_strings: [7, [], [''], [7], ''],
  do_sample: NOT_FLAGS,
  num_beams: [0, ...NOT_COUNTS],
  num_beam_groups: [0, ...NOT_COUNTS],
  diversity_penalty: [-1, ...NOT_NUMBERS],
  penalty_alpha: [-0.1, 1.1, ...NOT_NUMBERS],
  use_cache: NOT_FLAGS,
  temperature: [0, -1, ...NOT_NUMBERS],
  top_k: NOT_COUNTS,
  top_p: [-0.1, 1.1, ...NOT_NUMBERS],
  min_p: [-0.1, 1.1, ...NOT_NUMBERS],
  typical_p: [0, 1.1, ...NOT_NUMBERS],
  epsilon_cutoff: [-0.1, 1, ...NOT_NUMBERS],
  eta_cutoff: [-0.1, 1, ...NOT_NUMBERS],
  repetition_penalty: [0, -1, ...NOT_NUMBERS],
  encoder_repetition_penalty: [0, -1, ...NOT_NUMBERS],
  length_penalty: NOT_NUMBERS,
  no_repeat_ngram_size: NOT_COUNTS,
  encoder_no_repeat_ngram_size: NOT_COUNTS,
  bad_words_ids: [[], [[]], [[120]], [[-1]], [5], 'x', 7, [[Number.NaN]]],
  sequence_bias: [[], [[[1], Number.NaN]], [[[], 1]], [[[120], 1]], [[1, 1]], 'x', 7],
  renormalize_logits: NOT_FLAGS,
  forced_bos_token_id: NOT_TOKENS,
  forced_eos_token_id: [...NOT_TOKENS, []],
  remove_invalid_values: NOT_FLAGS,
  exponential_decay_length_penalty: [[], [1], [1, 0], [-1, 2], [1.5, 2], [1, Number.NaN], 7, 'x'],
  suppress_tokens: NOT_TOKEN_LISTS,
  begin_suppress_tokens: NOT_TOKEN_LISTS,
  guidance_scale: [2, 'x'],
  num_return_sequences: [0, ...NOT_COUNTS],
  output_scores: NOT_FLAGS,
  output_logits: NOT_FLAGS,
  output_attentions: NOT_FLAGS,
  output_hidden_states: NOT_FLAGS,
  output_router_logits: NOT_FLAGS,
  return_dict_in_generate: NOT_FLAGS,
  pad_token_id: NOT_TOKENS,
  bos_token_id: NOT_TOKENS,
  eos_token_id: [...NOT_TOKENS, []],
  decoder_start_token_id: NOT_TOKENS,
  seed: [-1, 1.5, Number.NaN, 'x', true],
}

describe.each(Object.entries(WRONG))('%s', (name, values) => {
  test.each(values.map((value) => [value]))('%j', async (value) => {
    const error = await failure_of(() => model.generate({ input_ids, max_new_tokens: 2, [name]: value } as never))
    expect(['INVALID_OPTION', 'UNSUPPORTED_OPTION']).toContain(error.code)
    expect(error.message).toContain(name)
  })
})

test.each([
  ['tokenizer', 7],
  ['signal', new AbortController()],
  ['profile', 'yes'],
  ['output_routes', 1],
  ['streamer', 7],
  ['generation_config', []],
])('%s, which is no generation option, is checked too', async (name, value) => {
  const error = await failure_of(() => model.generate({ input_ids, max_new_tokens: 2, [name]: value } as never))
  expect(error.code).toBe('INVALID_OPTION')
  expect(error.message).toContain(name)
})

test('stream takes no streamer', async () => {
  const streamer = { put() {}, end() {} }
  expect(await failure_of(() => model.stream({ input_ids, streamer } as never).next())).toMatchObject({
    code: 'INVALID_OPTION',
    details: { option: 'streamer' },
  })
})

test.each([
  ['force_words_ids', [[5]]],
  ['constraints', []],
  ['assistant_model', () => {}],
  ['prompt_lookup_num_tokens', 3],
  ['watermarking_config', {}],
  ['negative_prompt_ids', [[5]]],
])('%s is refused by name, whatever its value', async (name, value) => {
  const error = await failure_of(() => model.generate({ input_ids, max_new_tokens: 2, [name]: value } as never))
  expect(error.code).toBe('UNSUPPORTED_OPTION')
  expect(error.message).toContain(name)
})

describe('contradictions', () => {
  test.each([
    [{ num_return_sequences: 2 }, 'num_return_sequences'],
    [{ num_beams: 2, num_return_sequences: 3 }, 'num_return_sequences'],
    [{ num_beams: 4, num_beam_groups: 3, diversity_penalty: 1 }, 'num_beam_groups'],
    [{ num_beams: 4, num_beam_groups: 2 }, 'diversity_penalty'],
    [{ num_beams: 4, num_beam_groups: 2, diversity_penalty: 1, do_sample: true }, 'num_beam_groups'],
    [{ forced_eos_token_id: 1, suppress_tokens: [1, 2] }, 'suppress_tokens'],
    [{ exponential_decay_length_penalty: [1, 2], eos_token_id: null }, 'exponential_decay_length_penalty'],
  ])('%j', async (options, name) => {
    const error = await failure_of(() => model.generate({ input_ids, max_new_tokens: 2, ...options } as never))
    expect(error.code).toBe('INVALID_OPTION')
    expect(error.message).toContain(name)
  })

  test('everything that is wrong is said at once', async () => {
    const error = await failure_of(() => model.generate({ input_ids, top_p: 2, num_beams: 0, temperature: -1 }))
    for (const name of ['top_p', 'num_beams', 'temperature']) expect(error.message).toContain(name)
    expect((error.details as { faults: unknown[] }).faults).toHaveLength(3)
  })
})

describe('where options come from', () => {
  test("the call's win over generation_config, which wins over the model's; null unsets", async () => {
    const own = model.generation_config
    try {
      model.generation_config = new GenerationConfig({
        ...own.to_dict(),
        max_new_tokens: 3,
        eos_token_id: null,
      } as never)
      expect((await model.generate({ input_ids })).dims).toEqual([1, 4])
      expect((await model.generate({ input_ids, generation_config: { max_new_tokens: 4 } })).dims).toEqual([1, 5])
      const generation_config = new GenerationConfig({ max_new_tokens: 4 })
      expect((await model.generate({ input_ids, generation_config, max_new_tokens: 5 })).dims).toEqual([1, 6])
      expect((await model.generate({ input_ids, max_new_tokens: null })).dims).toEqual([1, 21])
    } finally {
      model.generation_config = own
    }
  })

  test('what would choose other tokens, and is not available, is refused there too', async () => {
    const generation_config = new GenerationConfig({ force_words_ids: [[5]] } as never)
    const error = await failure_of(() => model.generate({ input_ids, generation_config }))
    expect(error.code).toBe('UNSUPPORTED_OPTION')
    expect(error.message).toContain('force_words_ids')
  })

  test('what a generation_config.json holds beside options does no harm', async () => {
    const own = model.generation_config
    try {
      model.generation_config = GenerationConfig.from_dict({
        ...own.to_dict(),
        something_new: { a: 1 },
        _commit_hash: 'x',
      })
      expect(rows_of(await model.generate({ input_ids, max_new_tokens: 6 }))).toEqual(healthy)
      expect(JSON.parse(model.generation_config.to_json_string())).toMatchObject({ something_new: { a: 1 } })
    } finally {
      model.generation_config = own
    }
  })
})
