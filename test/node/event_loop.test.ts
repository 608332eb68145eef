/** Work runs off the event loop: a timer keeps its time while a generation runs. */

import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'

const folder = fileURLToPath(new URL('../../ts/assets/g2p', import.meta.url))

/** Seconds of generation. The full bar is 30; the suite takes less of everyone's time. */
const SECONDS = Number(process.env.SWITCH_EVENT_LOOP_SECONDS ?? 3)
const INTERVAL_MS = 10
const LATEST_MS = 20

/** How late the latest tick of a 10 ms interval was while `work` ran. */
async function latest_tick(work: Promise<unknown>): Promise<number> {
  let last = performance.now()
  let latest = 0
  const timer = setInterval(() => {
    const now = performance.now()
    latest = Math.max(latest, now - last - INTERVAL_MS)
    last = now
  }, INTERVAL_MS)
  try {
    await work
  } finally {
    clearInterval(timer)
  }
  return latest
}

describe.each(['native', 'wasm'] as const)('%s', (backend) => {
  // Other processes on the machine delay timers too: what they cost is measured first.
  test(`a timer is never ${LATEST_MS} ms late while a generation runs`, { retry: 3, timeout: 120_000 }, async () => {
    await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
    const input_ids = Array.from({ length: 16 }, (_, row) =>
      Array.from({ length: 24 }, (_, i) => 3 + ((row * 7 + i) % 20)),
    )
    const delay_of_others = await latest_tick(new Promise((resolve) => setTimeout(resolve, 1000)))
    const generation = model
      .generate({ input_ids, max_new_tokens: 1_000_000, eos_token_id: null, max_time: SECONDS })
      .then((ids) => expect(ids.dims[1]).toBeGreaterThan(10))
    expect(await latest_tick(generation)).toBeLessThan(LATEST_MS + delay_of_others)
  })
})
