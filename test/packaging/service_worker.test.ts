/**
 * The packed package in a service worker. There are no workers to be started and no `import()` there, so a bundler makes
 * one file of it, and the module runs in the service worker's own thread.
 */

import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { rolldown } from 'rolldown'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { copy_model, expect_no_native_code, HELLO, SAY } from './hello.js'
import { result_of, serve_folder, start_browser } from './pages.js'
import { create_project, type Packed, pack } from './project.js'

const WORKER = `${SAY}
self.addEventListener('install', () => self.skipWaiting())
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()))
self.addEventListener('message', (event) => {
  event.waitUntil(say().then(
    (text) => event.source.postMessage(text),
    (error) => event.source.postMessage(String(error.stack ?? error)),
  ))
})
`

const PAGE = `<!doctype html><title>hello</title><p id="result"></p>
<script type="module">
  navigator.serviceWorker.addEventListener('message', (event) => {
    document.querySelector('#result').textContent = event.data
  })
  await navigator.serviceWorker.register('/worker.js', { type: 'module' })
  const { active } = await navigator.serviceWorker.ready
  active.postMessage('say')
</script>
`

let packed: Packed
let browser: Browser

beforeAll(async () => {
  packed = pack()
  browser = await start_browser()
})

afterAll(async () => {
  await browser?.close()
  if (packed) rmSync(packed.folder, { recursive: true, force: true })
})

it('generates in a service worker', async () => {
  const folder = join(packed.folder, 'service')
  create_project(folder, [packed.main], { 'worker.js': WORKER })
  const build = await rolldown({ input: 'worker.js', platform: 'browser', cwd: folder, onLog: () => {} })
  const built = join(folder, 'built')
  await build.write({ dir: built, format: 'esm', codeSplitting: false })
  await build.close()
  // Looked for beside the script, as the package has it.
  mkdirSync(built, { recursive: true })
  for (const form of ['', '_threads', '_relaxed']) {
    const file = `switch_transformers${form}.wasm`
    copyFileSync(join(folder, 'node_modules/switch-transformers/dist', file), join(built, file))
  }
  expect_no_native_code(built)
  writeFileSync(join(built, 'index.html'), PAGE)
  copy_model(folder, join(built, 'model'))
  const server = await serve_folder(built)
  try {
    expect(await result_of(browser, server.url)).toBe(HELLO)
  } finally {
    server.close()
  }
})
