/** Processors and criteria written in JavaScript, and what becomes of those that misbehave. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  failure_of,
  fixture,
  LogitsProcessor,
  LogitsProcessorList,
  read_json,
  read_tensors,
  rows_of,
  StoppingCriteria,
  StoppingCriteriaList,
  SwitchTransformersForConditionalGeneration,
  Tensor,
} from './library.js'

const folder = fixture('parity/base')
let model: SwitchTransformersForConditionalGeneration
let inputs: { input_ids: Tensor; attention_mask: Tensor }
let greedy: number[][]

beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  const tensors = await read_tensors(folder, 'inputs.safetensors')
  inputs = { input_ids: tensors.get('input_ids') as Tensor, attention_mask: tensors.get('attention_mask') as Tensor }
  greedy = (await read_json<{ sequences: number[][] }[]>(folder, 'generation.json'))[0]?.sequences ?? []
})
afterAll(() => model?.dispose())

describe('logits_processor', () => {
  test('sees ids and scores, and what it writes is what is chosen from', async () => {
    const seen: { ids: bigint[][]; dims: number[] }[] = []
    const ids = await model.generate({
      ...inputs,
      max_new_tokens: 4,
      logits_processor: (input_ids, logits) => {
        seen.push({ ids: input_ids, dims: logits.dims })
        for (const [row, sequence] of input_ids.entries()) logits.data[row * 120 + 50 + sequence.length] = 1e6
      },
    })
    expect(rows_of(ids)).toEqual(greedy.map(() => [0, 51, 52, 53, 54]))
    expect(seen.map(({ dims }) => dims)).toEqual([
      [3, 120],
      [3, 120],
      [3, 120],
      [3, 120],
    ])
    expect(seen[2]?.ids).toEqual(greedy.map(() => [0n, 51n, 52n]))
  })

  test('changing nothing changes nothing; finished rows are no longer seen', async () => {
    const rows: number[] = []
    const logits_processor = (_ids: bigint[][], logits: Tensor<'float32'>) => {
      rows.push(logits.dims[0] as number)
      return logits
    }
    const ids = await model.generate({ ...inputs, max_new_tokens: 12, logits_processor })
    expect(rows_of(ids)).toEqual(greedy)
    expect(rows[0]).toBe(3)
    expect(rows[rows.length - 1]).toBe(1)
  })

  test('classes, lists and several in order; beams too', async () => {
    class Force extends LogitsProcessor {
      constructor(readonly token: number) {
        super()
      }
      override _call(ids: bigint[][], logits: Tensor<'float32'>) {
        const changed = new Tensor('float32', new Float32Array(logits.size).fill(-1e9), logits.dims)
        for (const row of ids.keys()) changed.data[row * 120 + this.token] = 0
        return changed
      }
    }
    const list = new LogitsProcessorList()
    list.extend([new Force(40), new Force(41)])
    for (const options of [{}, { num_beams: 3 }]) {
      const ids = await model.generate({ ...inputs, max_new_tokens: 3, logits_processor: list, ...options })
      expect(rows_of(ids)).toEqual(greedy.map(() => [0, 41, 41, 41]))
    }
  })

  const bad: [string, unknown][] = [
    [
      'throws',
      () => {
        throw new Error('mine')
      },
    ],
    [
      'writes NaN',
      (_ids: unknown, logits: Tensor<'float32'>) => {
        logits.data[7] = Number.NaN
      },
    ],
    ['returns a number', () => 7],
    ['returns another shape', () => new Tensor('float32', [1, 2], [1, 2])],
    [
      'returns another type',
      (_ids: unknown, logits: Tensor) => new Tensor('int32', new Int32Array(logits.size), logits.dims),
    ],
    ['returns what only looks like a tensor', (_ids: unknown, { dims }: Tensor) => ({ type: 'float32', dims })],
    ['is asynchronous', async () => {}],
    [
      'is asynchronous and fails',
      async () => {
        throw new Error('mine')
      },
    ],
    [
      'throws what has no text',
      () => {
        throw Object.create(null)
      },
    ],
    [
      'changes the shape',
      (_ids: unknown, logits: Tensor) => {
        logits.dims[0] = 77
      },
    ],
    ['is no function', 7],
    ['is a list with something else', [null]],
  ]
  test.each(bad)('one that %s is named, and the model goes on', async (_what, logits_processor) => {
    const error = await failure_of(() =>
      model.generate({ ...inputs, max_new_tokens: 3, logits_processor: logits_processor as never }),
    )
    expect(error.code).toBe('INVALID_OPTION')
    expect(error.message).toContain('logits_processor')
    expect(rows_of(await model.generate({ ...inputs, max_new_tokens: 12 }))).toEqual(greedy)
  })
})

test('scores that a processor keeps, and writes to later, are its own', async () => {
  const kept: Tensor<'float32'>[] = []
  const spoil = () => {
    for (const { data } of kept) data.fill(Number.NaN)
  }
  const logits_processor = (_ids: bigint[][], logits: Tensor<'float32'>) => {
    kept.push(logits)
    queueMicrotask(spoil)
    setTimeout(spoil)
  }
  expect(rows_of(await model.generate({ ...inputs, max_new_tokens: 12, logits_processor }))).toEqual(greedy)
})

test('a hook may generate with the same model', async () => {
  const inner: Promise<Tensor>[] = []
  const stopping_criteria = () => {
    inner.push(model.generate({ ...inputs, max_new_tokens: 12 }))
    return false
  }
  expect(rows_of(await model.generate({ ...inputs, max_new_tokens: 12, stopping_criteria }))).toEqual(greedy)
  for (const ids of await Promise.all(inner)) expect(rows_of(ids)).toEqual(greedy)
})

test.each(['logits_processor', 'stopping_criteria'])('a %s that disposes of its model', async (hook) => {
  const own = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  const dispose = () => {
    void own.dispose()
    return hook === 'stopping_criteria' ? false : undefined
  }
  const error = await failure_of(() => own.generate({ ...inputs, [hook]: dispose }))
  expect(error).toMatchObject({ code: 'DISPOSED', name: 'DisposedError' })
})

describe('stopping_criteria', () => {
  test('end rows one by one', async () => {
    const stopping_criteria = (ids: number[][]) => ids.map((row) => row[1] === greedy[2]?.[1] && row.length > 4)
    const ids = rows_of(await model.generate({ ...inputs, max_new_tokens: 12, stopping_criteria }))
    expect(ids[0]).toEqual(greedy[0]?.slice(0, ids[0]?.length))
    expect(ids[2]?.slice(0, 5)).toEqual(greedy[2]?.slice(0, 5))
    expect(ids[2]?.slice(5).every((id) => id === 0)).toBe(true)
  })

  test('classes and lists; one answer for all', async () => {
    class Length extends StoppingCriteria {
      override _call(ids: number[][]) {
        return (ids[0]?.length ?? 0) >= 3
      }
    }
    const list = new StoppingCriteriaList()
    list.push(new Length())
    const ids = await model.generate({ ...inputs, max_new_tokens: 12, eos_token_id: null, stopping_criteria: list })
    expect(ids.dims).toEqual([3, 3])
  })

  test('with beams, they end the continuations they name', async () => {
    const lengths: number[] = []
    const stopping_criteria = (ids: number[][]) => {
      lengths.push(ids[0]?.length ?? 0)
      return ids.map((row) => row.length >= 4)
    }
    const ids = await model.generate({
      ...inputs,
      max_new_tokens: 12,
      num_beams: 3,
      eos_token_id: null,
      stopping_criteria,
    })
    expect(ids.dims).toEqual([3, 4])
    expect(Math.max(...lengths)).toBe(4)
  })

  const bad: [string, unknown][] = [
    [
      'throws',
      () => {
        throw new Error('mine')
      },
    ],
    ['returns nothing', () => undefined],
    ['is asynchronous', async () => false],
    ['returns too few answers', () => [true]],
    ['returns numbers', (ids: number[][]) => ids.map(() => 1)],
    ['is no function', {}],
  ]
  test.each(bad)('one that %s is named, and the model goes on', async (_what, stopping_criteria) => {
    const error = await failure_of(() =>
      model.generate({ ...inputs, max_new_tokens: 3, stopping_criteria: stopping_criteria as never }),
    )
    expect(error.code).toBe('INVALID_OPTION')
    expect(error.message).toContain('stopping_criteria')
    expect(rows_of(await model.generate({ ...inputs, max_new_tokens: 12 }))).toEqual(greedy)
  })
})
