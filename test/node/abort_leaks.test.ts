/** Aborting at any point frees everything, and the model goes on. */

import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'

const folder = fileURLToPath(new URL('../../ts/assets/g2p', import.meta.url))
const ROUNDS = Number(process.env.SWITCH_ABORT_ROUNDS ?? 40)
const input_ids = Array.from({ length: 8 }, (_, row) => Array.from({ length: 20 }, (_, i) => 3 + ((row * 5 + i) % 20)))

/** A fixed sequence of numbers from 0 to 1, so that a failure can be seen again. */
function* points(): Generator<number> {
  for (let state = 12345; ; ) {
    state = (state * 1103515245 + 12345) % 2 ** 31
    yield state / 2 ** 31
  }
}

describe.each(['native', 'wasm'] as const)('%s', (backend) => {
  test(`${ROUNDS} aborts at random points leave memory flat`, { timeout: 120_000 }, async () => {
    await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
    const before = (await model.generate({ input_ids, max_new_tokens: 8 })).tolist()
    const random = points()
    const aborted = async () => {
      const controller = new AbortController()
      const timer = setTimeout(() => controller.abort(), (random.next().value as number) * 40)
      const options = { input_ids, max_new_tokens: 100_000, eos_token_id: null, signal: controller.signal }
      await expect(model.generate(options)).rejects.toMatchObject({ code: 'ABORTED' })
      clearTimeout(timer)
    }
    for (let round = 0; round < 10; round++) await aborted()
    const settled = process.memoryUsage().rss
    for (let round = 0; round < ROUNDS; round++) await aborted()
    expect(process.memoryUsage().rss - settled).toBeLessThan(48 * 2 ** 20)
    expect((await model.generate({ input_ids, max_new_tokens: 8 })).tolist()).toEqual(before)
  })
})
