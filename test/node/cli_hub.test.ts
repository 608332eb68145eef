/** The command line against a hub. */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { run_cli } from './cli.js'
import { COMMIT, use_hub } from './hub_fixture.js'
import type { HubFile } from './hub_server.js'

const hub = use_hub()
const NAME = 'owner/g2p'

test('generate and inspect take a name, download once, and work offline afterwards', async () => {
  const folder = path.join(import.meta.dirname, '../../ts/assets/g2p')
  const files: Record<string, HubFile> = {}
  for (const name of readdirSync(folder)) {
    files[name] = { content: readFileSync(path.join(folder, name)), lfs: name.endsWith('.safetensors') }
  }
  hub.server.repositories[NAME] = { refs: { main: COMMIT }, commits: { [COMMIT]: files } }
  const env = { HF_ENDPOINT: process.env.HF_ENDPOINT as string, HF_HOME: hub.home }

  const generated = await run_cli(['generate', 'hello', '--model', NAME], { env })
  expect(generated).toMatchObject({ code: 0, stdout: 'HH EH1 L OW0\n', stderr: '' })
  hub.server.reset()
  const inspected = await run_cli(['inspect', NAME, '--local-files-only', '--json'], { env })
  expect(JSON.parse(inspected.stdout)).toMatchObject({ name: NAME, commit: COMMIT, experts: 8 })
  expect(hub.server.requests).toEqual([])

  const missing = await run_cli(['inspect', 'owner/nothing'], { env })
  expect(missing.stderr).toMatch(/^error \[HUB_NOT_FOUND\]: [^\n]+\n$/)
  expect(missing.code).toBe(2)
})
