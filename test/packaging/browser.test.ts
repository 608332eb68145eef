/** The packed package in pages: without a build step, through Vite and through webpack, to a generated word. */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import manifest from '../../package.json'
import { copy_model, expect_no_native_code, HELLO, SAY } from './hello.js'
import { result_of, serve_folder, start_browser } from './pages.js'
import { create_project, type Packed, pack, succeed } from './project.js'

let packed: Packed
let browser: Browser

beforeAll(async () => {
  packed = pack()
  browser = await start_browser()
})

afterAll(async () => {
  await browser?.close()
  rmSync(packed.folder, { recursive: true, force: true })
})

const SCRIPT = `${SAY}
say().then(
  (text) => { document.querySelector('#result').textContent = text },
  (error) => { document.querySelector('#result').textContent = String(error.stack ?? error) },
)
`
const page = (scripts: string) => `<!doctype html><title>hello</title><p id="result"></p>\n${scripts}\n`
/** No blobs, no eval: WebAssembly alone is allowed. */
const policy = (extra = '') => ({
  'content-security-policy': `script-src 'self' 'wasm-unsafe-eval'${extra}; worker-src 'self'`,
})
const isolated = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' }

describe('a page with an import map', () => {
  const folder = () => join(packed.folder, 'bare')
  const map = JSON.stringify({
    imports: { 'switch-transformers': '/node_modules/switch-transformers/dist/browser.js' },
  })
  const hash = ` 'sha256-${createHash('sha256').update(map).digest('base64')}'`

  beforeAll(() => {
    const scripts = `<script type="importmap">${map}</script><script type="module" src="/main.js"></script>`
    create_project(folder(), [packed.main], { 'index.html': page(scripts), 'main.js': SCRIPT })
    copy_model(folder(), join(folder(), 'model'))
  })

  it.each([
    ['as it is', {}, /_relaxed\.wasm$/],
    ['isolated from other origins', isolated, /_relaxed\.wasm$/],
  ])('%s', async (_, headers, module) => {
    const server = await serve_folder(folder(), { ...policy(hash), ...headers })
    try {
      expect(await result_of(browser, server.url)).toBe(HELLO)
      // Twice where the page took so long to fetch the model that the worker, idle, was ended and started again.
      const modules = new Set(server.requests.filter((path) => path.endsWith('.wasm')))
      expect([...modules]).toEqual([expect.stringMatching(module)])
    } finally {
      server.close()
    }
  })
})

describe('Vite', () => {
  const folder = () => join(packed.folder, 'vite')

  beforeAll(() => {
    create_project(folder(), [packed.main, `vite@${manifest.devDependencies.vite}`], {
      'index.html': page('<script type="module" src="/main.js"></script>'),
      'main.js': SCRIPT,
    })
    copy_model(folder(), join(folder(), 'public/model'))
  })

  it('builds', async () => {
    succeed(folder(), 'npx', ['vite', 'build', '--logLevel', 'warn'])
    const built = join(folder(), 'dist')
    expect_no_native_code(built)
    const server = await serve_folder(built, policy())
    try {
      expect(await result_of(browser, server.url)).toBe(HELLO)
    } finally {
      server.close()
    }
  })

  it('serves while developing', async () => {
    const script =
      "import { createServer } from 'vite'\n" +
      'const server = await createServer({ server: { port: 0, host: "127.0.0.1" }, logLevel: "error" })\n' +
      'await server.listen()\n' +
      'console.log(server.httpServer.address().port)\n'
    writeFileSync(join(folder(), 'dev.mjs'), script)
    const dev = spawn(process.execPath, ['dev.mjs'], { cwd: folder(), stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const port = await new Promise<string>((resolve) =>
        dev.stdout.once('data', (data) => resolve(String(data).trim())),
      )
      expect(await result_of(browser, `http://127.0.0.1:${port}/`)).toBe(HELLO)
    } finally {
      dev.kill()
    }
  })
})

describe('webpack', () => {
  const folder = () => join(packed.folder, 'webpack')

  it('builds', async () => {
    create_project(folder(), [packed.main, 'webpack@5', 'webpack-cli@7'], {
      'main.js': SCRIPT,
      'webpack.config.cjs': "module.exports = { mode: 'production', entry: './main.js' }\n",
    })
    succeed(folder(), 'npx', ['webpack'])
    const built = join(folder(), 'dist')
    mkdirSync(built, { recursive: true })
    writeFileSync(join(built, 'index.html'), page('<script type="module" src="/main.js"></script>'))
    copy_model(folder(), join(built, 'model'))
    expect_no_native_code(built)
    const server = await serve_folder(built, policy())
    try {
      expect(await result_of(browser, server.url)).toBe(HELLO)
    } finally {
      server.close()
    }
  })
})
