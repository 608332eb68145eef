/**
 * Loads a large checkpoint from a plain address in headless Chromium: `node benches/facade/browser_load.mjs
 * [--size base-8] [--dtype float32] [--artefact simd] [--no-ranges]`. Says how long it takes, what the page's process takes at
 * most, and what is generated.
 */

import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import { checkpoint, describe_machine, require_build, root } from '../peers/environment.mjs'

const { values: options } = parseArgs({
  options: {
    size: { type: 'string', default: 'base-8' },
    dtype: { type: 'string', default: 'float32' },
    artefact: { type: 'string', default: 'simd' },
    // A server that gives whole files only.
    'no-ranges': { type: 'boolean', default: false },
  },
})
const TYPES = { js: 'text/javascript', json: 'application/json', wasm: 'application/wasm' }

require_build()
const folders = { dist: join(root, 'dist'), checkpoint: checkpoint(options.size, options.dtype) }
const weights = statSync(join(folders.checkpoint, 'model.safetensors')).size

let served = 0
const server = createServer((request, response) => {
  const [, folder, ...rest] = new URL(request.url, 'http://localhost').pathname.split('/')
  const headers = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' }
  if (folder === '') {
    response.writeHead(200, { ...headers, 'content-type': 'text/html' })
    return void response.end('<!doctype html>')
  }
  const file = join(folders[folder] ?? '', ...rest)
  if (!(folder in folders) || !existsSync(file)) return void response.writeHead(404).end()
  const { size } = statSync(file)
  const range = options['no-ranges'] ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
  const [start, end] = range ? [Number(range[1]), Number(range[2])] : [0, size - 1]
  response.writeHead(range ? 206 : 200, {
    ...headers,
    'content-type': TYPES[file.split('.').at(-1)] ?? 'application/octet-stream',
    'content-length': end - start + 1,
    ...(range && { 'content-range': `bytes ${start}-${end}/${size}` }),
  })
  if (request.method === 'HEAD') return void response.end()
  const stream = createReadStream(file, { start, end })
  stream.on('data', (chunk) => {
    served += chunk.length
  })
  stream.pipe(response)
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const browser = await chromium.launch({
  executablePath: process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
})
const page = await browser.newPage()
page.setDefaultTimeout(0)
await page.goto(`http://localhost:${server.address().port}/`)
const session = await browser.newBrowserCDPSession()
const { processInfo } = await session.send('SystemInfo.getProcessInfo')
const pages = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id)
/** 0 for a process in reserve that has ended meanwhile. */
const peak = (id) => {
  const status = `/proc/${id}/status`
  return existsSync(status) ? Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(status, 'utf8'))?.[1]) * 1024 : 0
}
const before = Math.max(...pages.map(peak))

const outcome = await page.evaluate(
  `(async (artefact) => {
    const { env, SwitchTransformersForConditionalGeneration: Model } = await import('/dist/browser.js')
    Object.assign(env.wasm, { artefact })
    const start = performance.now()
    const model = await Model.from_pretrained('/checkpoint/', { backend: 'wasm' })
    const seconds = (performance.now() - start) / 1000
    const sequences = await model.generate({ input_ids: [[5, 6, 7, 1]], max_new_tokens: 4, min_new_tokens: 4 })
    await model.dispose()
    return { seconds, sequences: String(sequences.sequences?.data ?? sequences.data ?? sequences) }
  })('${options.artefact}').catch((error) => ({ failure: error.code + ': ' + error.message }))`,
)
const most = Math.max(...pages.map(peak)) - before
const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`
console.log(`${describe_machine()}; ${options.size} ${options.dtype} (${gb(weights)}), ${options.artefact}, ${options['no-ranges'] ? 'whole files only' : 'range requests'}
${outcome.failure ?? `loaded in ${outcome.seconds.toFixed(1)} s, generated ${outcome.sequences}`}
sent by the server: ${gb(served)}; the page's process at most ${gb(most)} more: ${(most / weights).toFixed(2)} of the weights`)
await browser.close()
process.exit(0)
