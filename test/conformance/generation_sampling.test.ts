/** Seeds, and that a row's result does not depend on the rows beside it, on padding or on the order of rows. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backend, fixture, rows_of, SwitchTransformersForConditionalGeneration } from './library.js'

let model: SwitchTransformersForConditionalGeneration
beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(fixture('parity/capacity-drop'), { backend })
})
afterAll(() => model?.dispose())

/** Rows of different lengths, from a fixed sequence of numbers. */
function rows(count: number, seed: number): number[][] {
  let state = seed
  const next = (below: number) => {
    state = (state * 48271) % 2147483647
    return state % below
  }
  return Array.from({ length: count }, () => Array.from({ length: 1 + next(12) }, () => 2 + next(118)))
}

/** Rows padded to one length, on the right, with their mask. */
function padded(list: number[][], width = Math.max(...list.map((row) => row.length))) {
  const fill = (row: number[], value: number) => [...row, ...new Array<number>(width - row.length).fill(value)]
  return {
    input_ids: list.map((row) => fill(row, 0)),
    attention_mask: list.map((row) => fill(new Array<number>(row.length).fill(1), 0)),
  }
}

function trimmed(row: number[]): number[] {
  const end = row.indexOf(1)
  return end < 0 ? row : row.slice(0, end + 1)
}

const STRATEGIES: [string, object][] = [
  ['greedy', {}],
  ['beams', { num_beams: 3 }],
  ['sampling', { do_sample: true, seed: 5, temperature: 1.3, top_k: 0 }],
  ['beam sampling', { do_sample: true, seed: 5, num_beams: 2 }],
  ['processors', { repetition_penalty: 1.4, no_repeat_ngram_size: 2, encoder_repetition_penalty: 1.2 }],
]

describe.each(STRATEGIES)('%s', (_name, options) => {
  test.each([1, 2, 3, 4, 5])('rows do not depend on each other, on padding or on order (%i)', async (seed) => {
    const list = rows(5, seed)
    const settings = { max_new_tokens: 8, ...options }
    const alone: number[][] = []
    for (const row of list)
      alone.push(trimmed(rows_of(await model.generate({ input_ids: [row], ...settings }))[0] as number[]))
    const together = rows_of(await model.generate({ ...padded(list), ...settings })).map(trimmed)
    expect(together).toEqual(alone)
    const wide = rows_of(await model.generate({ ...padded([...list].reverse(), 20), ...settings })).map(trimmed)
    expect(wide.reverse()).toEqual(alone)
  })
})

describe('sampling', () => {
  const sample = { do_sample: true, top_k: 0, temperature: 1.5, max_new_tokens: 10, eos_token_id: null }

  test('the same seed gives the same tokens, another seed others, and no seed others each time', async () => {
    const input = padded(rows(3, 9))
    const first = rows_of(await model.generate({ ...input, ...sample, seed: 7 }))
    expect(rows_of(await model.generate({ ...input, ...sample, seed: 7 }))).toEqual(first)
    expect(rows_of(await model.generate({ ...input, ...sample, seed: 8 }))).not.toEqual(first)
    const unseeded = rows_of(await model.generate({ ...input, ...sample }))
    expect(rows_of(await model.generate({ ...input, ...sample }))).not.toEqual(unseeded)
  })

  test('native and WASM draw the same tokens', async () => {
    // Both projects run this file: what they must agree on is written down.
    const ids = rows_of(await model.generate({ ...padded(rows(3, 9)), ...sample, seed: 7 }))
    expect(ids).toEqual([
      [0, 61, 71, 61, 68, 89, 114, 61, 36, 100, 104],
      [0, 104, 32, 56, 56, 19, 24, 56, 36, 110, 5],
      [0, 1, 1, 50, 1, 1, 1, 85, 110, 67, 47],
    ])
  })

  test('several sequences a row', async () => {
    const ids = await model.generate({ input_ids: [[5, 6, 7]], ...sample, seed: 3, num_return_sequences: 4 })
    expect(ids.dims).toEqual([4, 11])
    expect(new Set(rows_of(ids).map(String)).size).toBeGreaterThan(1)
  })
})
