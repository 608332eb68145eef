/** `generate` and `stream`: forms of calling, options, streaming, limits, and that rows do not depend on each other. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  failure_of,
  fixture,
  GenerateOutput,
  GenerationConfig,
  g2p,
  InterruptableStoppingCriteria,
  read_json,
  read_tensors,
  relative_error,
  rows_of,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
  TextStreamer,
} from './library.js'

const folder = fixture('parity/base')
let model: SwitchTransformersForConditionalGeneration
let input_ids: Tensor
let attention_mask: Tensor
let greedy: number[][]

beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  const inputs = await read_tensors(folder, 'inputs.safetensors')
  input_ids = inputs.get('input_ids') as Tensor
  attention_mask = inputs.get('attention_mask') as Tensor
  greedy = (await read_json<{ sequences: number[][] }[]>(folder, 'generation.json'))[0]?.sequences ?? []
})
afterAll(() => model?.dispose())

describe('forms of calling', () => {
  test('one object, inputs and options, ids alone, nested arrays, typed arrays', async () => {
    const options = { max_new_tokens: 12 }
    const lists = (input_ids.tolist() as bigint[][]).map((row) => row.map(Number))
    const masks = (attention_mask.tolist() as bigint[][]).map((row) => row.map(Number))
    for (const ids of [
      await model.generate({ input_ids, attention_mask, ...options }),
      await model.generate({ inputs: input_ids, attention_mask, ...options }),
      await model.generate({ input_ids, attention_mask }, options),
      await model.generate({ input_ids: lists, attention_mask: masks }, options),
      await model.generate({ input_ids: lists.map((row) => Int32Array.from(row)), attention_mask: masks }, options),
      await model.generate({ input_ids, attention_mask, generation_config: new GenerationConfig(options) }),
      await model.generate({ input_ids, attention_mask, generation_config: options }),
    ]) {
      expect(rows_of(ids)).toEqual(greedy)
    }
    const first = lists[0] as number[]
    expect(rows_of(await model.generate([first], options))[0]?.slice(0, 3)).toEqual(greedy[0]?.slice(0, 3))
    expect(rows_of(await model.generate(Int32Array.from(first), options))[0]?.slice(0, 3)).toEqual(
      greedy[0]?.slice(0, 3),
    )
  })

  test('from an encoder output, and from embeddings', async () => {
    const { encoder_last_hidden_state } = await model.forward({
      input_ids,
      attention_mask,
      decoder_input_ids: [[0], [0], [0]],
    })
    const encoder_outputs = { last_hidden_state: encoder_last_hidden_state as Tensor }
    expect(rows_of(await model.generate({ encoder_outputs, attention_mask, max_new_tokens: 12 }))).toEqual(greedy)
    // With the ids beside it, processors that look at what the encoder read work too.
    const options = { attention_mask, max_new_tokens: 6, encoder_repetition_penalty: 5 }
    const penalized = rows_of(await model.generate({ input_ids, ...options }))
    expect(rows_of(await model.generate({ input_ids, encoder_outputs, ...options }))).toEqual(penalized)
    expect(penalized).not.toEqual(rows_of(await model.generate({ input_ids, attention_mask, max_new_tokens: 6 })))
    const { 'shared.weight': shared } = await model.state_dict(['shared.weight'])
    const rows = (input_ids.tolist() as bigint[][]).map((row) =>
      row.map((id) => ((shared as Tensor).at(Number(id)) as Tensor).tolist()),
    )
    expect(rows_of(await model.generate({ inputs_embeds: rows, attention_mask, max_new_tokens: 12 }))).toEqual(greedy)
  })

  test("the object form, with the model's own logits", async () => {
    const output = await model.generate({
      input_ids,
      attention_mask,
      max_new_tokens: 12,
      return_dict_in_generate: true,
    })
    expect(output).toBeInstanceOf(GenerateOutput)
    expect(rows_of(output.sequences)).toEqual(greedy)
    expect(Object.keys(output)).toEqual(['sequences'])
  })
})

test("everything that steps compute, in the reference's form", async () => {
  const output = await model.generate({
    input_ids,
    attention_mask,
    max_new_tokens: 3,
    eos_token_id: null,
    return_dict_in_generate: true,
    output_scores: true,
    output_logits: true,
    output_attentions: true,
    output_hidden_states: true,
    output_router_logits: true,
    output_routes: true,
  })
  const width = input_ids.dims[1] as number
  expect(output.scores?.map(({ dims }) => dims)).toEqual([
    [3, 120],
    [3, 120],
    [3, 120],
  ])
  expect(output.logits?.[1]?.tolist()).toEqual(output.scores?.[1]?.tolist())
  expect(output.encoder_hidden_states).toHaveLength(5)
  expect(output.encoder_attentions?.[0]?.dims).toEqual([3, 4, width, width])
  expect(output.encoder_router_logits).toHaveLength(2)
  expect(output.decoder_hidden_states?.map((layers) => layers.map(({ dims }) => dims))).toEqual(
    new Array(3).fill(new Array(5).fill([3, 1, 32])),
  )
  expect(output.decoder_attentions?.map((layers) => layers[0]?.dims)).toEqual([
    [3, 4, 1, 1],
    [3, 4, 1, 2],
    [3, 4, 1, 3],
  ])
  expect(output.cross_attentions?.[2]?.[3]?.dims).toEqual([3, 4, 1, width])
  expect(output.decoder_router_logits?.[0]?.[1]?.dims).toEqual([3, 1, 4])
  expect(output.decoder_routes?.map(({ dims }) => dims)).toEqual([
    [3, 3],
    [3, 3],
  ])
  // The last step's states are those of a full pass at that position.
  const full = await model.forward({
    input_ids,
    attention_mask,
    decoder_input_ids: rows_of(output.sequences).map((row) => row.slice(0, 3)),
    output_hidden_states: true,
  })
  const last = full.decoder_hidden_states?.[4]?.slice(null, [2, 3], null) as Tensor
  expect(relative_error(output.decoder_hidden_states?.[2]?.[4] as Tensor, last)).toBeLessThan(1e-5)
})

describe('lengths', () => {
  test('max_length counts the start token; the default is 20 new tokens', async () => {
    expect((await model.generate({ input_ids, attention_mask, max_length: 5 })).dims).toEqual([3, 5])
    expect((await model.generate({ input_ids, attention_mask, eos_token_id: null })).dims).toEqual([3, 21])
  })

  test('decoder_input_ids is a prefix', async () => {
    const prefix = greedy.map((row) => row.slice(0, 2))
    const ids = await model.generate({ input_ids, attention_mask, decoder_input_ids: prefix, max_new_tokens: 11 })
    expect(rows_of(ids)).toEqual(greedy)
    const without_start = greedy.map((row) => row.slice(1, 2))
    const same = await model.generate({
      input_ids,
      attention_mask,
      decoder_input_ids: without_start,
      max_new_tokens: 11,
    })
    expect(rows_of(same)).toEqual(greedy)
  })
})

test('the cache gives what a full pass gives', async () => {
  const decoder_input_ids = greedy.map((row) => row.slice(0, 4))
  const full = await model.forward({ input_ids, attention_mask, decoder_input_ids })
  let last = await model.forward({
    input_ids,
    attention_mask,
    decoder_input_ids: greedy.map((row) => row.slice(0, 2)),
    use_cache: true,
  })
  const { past_key_values, encoder_last_hidden_state } = last
  for (const position of [2, 3]) {
    last = await model.forward({
      encoder_outputs: { last_hidden_state: encoder_last_hidden_state as Tensor },
      attention_mask,
      decoder_input_ids: greedy.map((row) => row.slice(position, position + 1)),
      ...(past_key_values && { past_key_values }),
    })
    expect(last.past_key_values).toBe(past_key_values)
    expect(relative_error(last.logits, full.logits.slice(null, [position, position + 1], null))).toBeLessThan(1e-5)
  }
  await past_key_values?.dispose()
})

test('a row does not depend on its neighbours', async () => {
  for (const [row, expected] of greedy.entries()) {
    const alone = await model.generate({
      input_ids: input_ids.slice([row, row + 1]),
      attention_mask: attention_mask.slice([row, row + 1]),
      max_new_tokens: 12,
    })
    const ids = rows_of(alone)[0] as number[]
    expect(ids).toEqual(expected.slice(0, ids.length))
  }
})

test('without a mask every id is a token, as in the reference', async () => {
  const rows = [
    [73, 62, 0, 0, 0, 0],
    [62, 6, 100, 72, 26, 17],
    [43, 106, 0, 0, 0, 0],
  ]
  const options = { max_length: 8, repetition_penalty: 1.8, forced_bos_token_id: 12 }
  const sequence_bias = [[[64, 54], -0.5] as [number[], number], [[28, 12], 3] as [number[], number]]
  // Computed with transformers 5.18.0.
  const expected = [
    [0, 12, 18, 105, 88, 50, 68, 85],
    [0, 12, 95, 68, 20, 88, 117, 119],
    [0, 12, 85, 30, 88, 73, 36, 18],
  ]
  expect(rows_of(await model.generate({ input_ids: rows, sequence_bias, ...options }))).toEqual(expected)
})

test('the start token is put before rows that lack it, whatever their neighbours begin with', async () => {
  const options = { max_new_tokens: 4, eos_token_id: null }
  for (const search of [{}, { num_beams: 3 }, { penalty_alpha: 0.6, top_k: 4 }]) {
    const alone = await Promise.all(
      [
        [0, 5],
        [7, 8],
      ].map(async (prefix, row) =>
        rows_of(
          await model.generate({
            input_ids: input_ids.slice([row, row + 1]),
            attention_mask: attention_mask.slice([row, row + 1]),
            decoder_input_ids: [prefix],
            ...options,
            ...search,
          }),
        ).flat(),
      ),
    )
    expect(alone[1]?.slice(0, 3)).toEqual([0, 7, 8])
    const together = await model.generate({
      input_ids: input_ids.slice([0, 2]),
      attention_mask: attention_mask.slice([0, 2]),
      decoder_input_ids: [
        [0, 5],
        [7, 8],
      ],
      ...options,
      ...search,
    })
    for (const [row, ids] of rows_of(together).entries()) expect(ids.slice(0, alone[row]?.length)).toEqual(alone[row])
  }
})

describe('streams', () => {
  test('tokens come in order, and stop where the sequences end', async () => {
    const rows: number[][] = greedy.map(() => [0])
    for await (const { row, token } of model.stream({ input_ids, attention_mask }, { max_new_tokens: 12 }))
      rows[row]?.push(token)
    for (const [index, row] of rows.entries()) {
      const expected = greedy[index] as number[]
      expect(row).toEqual(expected.slice(0, row.length))
      expect(expected.slice(row.length).every((id) => id === 0)).toBe(true)
    }
  })

  test('each token comes with the experts that chose it, where they are asked for', async () => {
    const options = { input_ids, attention_mask, max_new_tokens: 12, output_routes: true }
    const { decoder_routes } = await model.generate({ ...options, return_dict_in_generate: true })
    const streamed: number[][][] = greedy.map(() => [])
    for await (const { row, routes } of model.stream(options)) streamed[row]?.push(routes ?? [])
    for (const [layer, routes] of (decoder_routes as Tensor[]).entries()) {
      for (const [row, expected] of (routes.tolist() as number[][]).entries()) {
        const found = streamed[row]?.map((experts) => experts[layer])
        expect(found).toEqual(expected.slice(0, found?.length))
        expect(expected.slice(found?.length).every((expert) => expert === -2)).toBe(true)
      }
    }
    const { value } = await model.stream({ input_ids, max_new_tokens: 1 }).next()
    expect(value).not.toHaveProperty('routes')
  })

  test('nothing is computed before somebody asks', async () => {
    const tokens = model.stream({ input_ids: input_ids.slice([0, 1]), max_new_tokens: 1000, eos_token_id: null })
    await tokens.next()
    await new Promise((resolve) => setTimeout(resolve, 50))
    await tokens.return()
  })

  test('a streamer gets the prompt, then each step', async () => {
    const put: bigint[][][] = []
    let ended = 0
    const streamer = { put: (value: bigint[][]) => void put.push(value), end: () => void ended++ }
    const ids = await model.generate({
      input_ids: input_ids.slice([2, 3]),
      attention_mask: attention_mask.slice([2, 3]),
      max_new_tokens: 4,
      streamer: streamer as never,
    })
    expect(put[0]).toEqual([[0n]])
    expect(put.flatMap((step) => step[0] ?? [])).toEqual((ids.tolist() as bigint[][])[0])
    expect(ended).toBe(1)
  })

  test('a streamer that throws ends the generation with its own error', async () => {
    const mine = new Error('mine')
    const streamer = {
      put: () => {
        throw mine
      },
      end: () => {},
    }
    expect(await failure_of(() => model.generate({ input_ids, max_new_tokens: 4, streamer: streamer as never }))).toBe(
      mine,
    )
    expect(rows_of(await model.generate({ input_ids, attention_mask, max_new_tokens: 12 }))).toEqual(greedy)
  })
})

describe('options', () => {
  test.each([
    [{ max_new_tokens: 0 }, 'INVALID_OPTION'],
    [{ max_new_tokens: 2.5 }, 'INVALID_OPTION'],
    [{ max_new_tokens: '3' }, 'INVALID_OPTION'],
    [{ max_new_tokens: Number.NaN }, 'INVALID_OPTION'],
    [{ max_length: -1 }, 'INVALID_OPTION'],
    [{ eos_token_id: 120 }, 'INVALID_OPTION'],
    [{ eos_token_id: [] }, 'INVALID_OPTION'],
    [{ temperature: Number.POSITIVE_INFINITY }, 'INVALID_OPTION'],
    [{ decoder_start_token_id: 4000 }, 'INVALID_OPTION'],
    [{ suppress_tokens: () => 1 }, 'INVALID_OPTION'],
    [{ streamer: {} }, 'INVALID_OPTION'],
    [{ stop_strings: 'x' }, 'INVALID_OPTION'],
    [{ generation_config: 5 }, 'INVALID_OPTION'],
    [{ numbeams: 2 }, 'UNSUPPORTED_OPTION'],
    [{ assistant_model: {} }, 'UNSUPPORTED_OPTION'],
    [{ watermarking_config: { bias: 1 } }, 'UNSUPPORTED_OPTION'],
  ])('%j is refused by name', async (options, code) => {
    const error = await failure_of(() => model.generate({ input_ids, ...options } as never))
    expect(error.code).toBe(code)
    expect(error.message).toContain(Object.keys(options)[0])
  })

  test('an interruptable criterion ends every row with what it has', async () => {
    const stopping_criteria = new InterruptableStoppingCriteria()
    stopping_criteria.interrupt()
    const ids = await model.generate({
      input_ids,
      attention_mask,
      max_new_tokens: 12,
      eos_token_id: null,
      stopping_criteria,
    })
    expect(ids.dims).toEqual([3, 2])
  })
})

test('the embedded model says hello', async () => {
  await using embedded = await SwitchTransformersForConditionalGeneration.from_pretrained(g2p, { backend })
  expect(embedded.num_parameters()).toBeGreaterThan(5e6)
  expect(embedded.num_parameters({ active: true })).toBeLessThan(embedded.num_parameters())
  expect(TextStreamer).toBeDefined()
})
