/** From the hub to a word: what a user does. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'
import { AutoTokenizer } from '../../ts/tokenizer/index.js'
import { COMMIT, use_hub } from './hub_fixture.js'
import type { HubFile } from './hub_server.js'

const hub = use_hub()
const NAME = 'owner/g2p'

it('a model and its tokenizer are downloaded, run, and run again offline', async () => {
  const folder = join(import.meta.dirname, '..', '..', 'ts', 'assets', 'g2p')
  const files: Record<string, HubFile> = {}
  for (const name of readdirSync(folder)) {
    files[name] = { content: readFileSync(join(folder, name)), lfs: name.endsWith('.safetensors') }
  }
  hub.server.repositories[NAME] = { refs: { main: COMMIT }, commits: { [COMMIT]: files } }
  const statuses = new Set<string>()
  const pronounce = async (local_files_only: boolean) => {
    const options = {
      local_files_only,
      progress_callback: ({ status }: { status: string }) => void statuses.add(status),
    }
    const tokenizer = await AutoTokenizer.from_pretrained(NAME, options)
    const model = await SwitchTransformersForConditionalGeneration.from_pretrained(NAME, options)
    try {
      const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
      return tokenizer.batch_decode(ids, { skip_special_tokens: true })
    } finally {
      await model.dispose()
    }
  }
  expect(await pronounce(false)).toEqual(['HH EH1 L OW0'])
  expect([...statuses].sort()).toEqual(['done', 'download', 'initiate', 'load', 'progress', 'progress_total', 'ready'])
  hub.server.reset()
  expect(await pronounce(true)).toEqual(['HH EH1 L OW0'])
  expect(hub.server.requests).toEqual([])
})
