/** `dispose` frees the weights: loading again and again takes no more memory. And nothing keeps the process alive. */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'

const folder = fileURLToPath(new URL('../../ts/assets/g2p', import.meta.url))
const entry = fileURLToPath(new URL('../../dist/node.js', import.meta.url))

describe.each(['native', 'wasm'] as const)('%s', (backend) => {
  test('ten rounds of loading and disposing do not grow', { timeout: 120_000 }, async () => {
    const round = async () => {
      await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, {
        backend,
        dtype: 'float32',
      })
      await model.generate({ input_ids: [[5, 6, 7]], max_new_tokens: 2 })
    }
    for (let i = 0; i < 4; i++) await round()
    const settled = process.memoryUsage().rss
    for (let i = 0; i < 10; i++) await round()
    // A round's weights are 11 MB: rounds that leaked would add 110. What a worker of its own leaves behind varies by some
    // 25 MB from run to run.
    expect(process.memoryUsage().rss - settled).toBeLessThan(60 * 2 ** 20)
  })

  test.runIf(existsSync(entry))(
    'a process with a loaded model ends by itself, and awaits its calls',
    { timeout: 60_000 },
    async () => {
      const program = `
      import { SwitchTransformersForConditionalGeneration as M } from ${JSON.stringify(entry)}
      const model = await M.from_pretrained(${JSON.stringify(folder)}, { backend: ${JSON.stringify(backend)} })
      const ids = await model.generate({ input_ids: [[5, 6, 7]], max_new_tokens: 2 })
      console.log(ids.dims.join())`
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
        timeout: 30_000,
      })
      expect(stdout.trim()).toBe('1,3')
    },
  )
})
