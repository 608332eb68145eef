/**
 * The two places where the web peers are compared: this Node, and a page of Chromium. Each gives `call(text, argument)`,
 * which runs a function given as its text, with `{ library, ort, fetch_bytes }` and the argument.
 */

import { createReadStream, existsSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { root } from './environment.mjs'

const TYPES = { js: 'text/javascript', mjs: 'text/javascript', wasm: 'application/wasm', json: 'application/json' }

/** `folders` by the name under which pages and calls know them: `checkpoint`, `onnx`, `ort`. */
export async function in_node(folders) {
  const library = await import('switch-transformers')
  const ort = await import(pathToFileURL(join(folders.ort, 'ort.node.min.mjs')).href)
  const tools = {
    library,
    ort,
    checkpoint: folders.checkpoint,
    fetch_bytes: async (path) => new Uint8Array(await readFile(join(folders.onnx, path))),
  }
  return {
    name: `Node ${process.versions.node}`,
    call: (text, argument) => new Function(`return ${text}`)()(tools, argument),
    close: () => library.terminate_backends(),
  }
}

export async function in_chromium(folders) {
  const served = { ...folders, dist: join(root, 'dist') }
  const server = createServer((request, response) => {
    const [, folder, ...rest] = new URL(request.url, 'http://localhost').pathname.split('/')
    const file = join(served[folder] ?? '', ...rest)
    const headers = {
      'content-type': TYPES[file.split('.').at(-1)] ?? 'application/octet-stream',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    }
    if (folder === '')
      return void response.writeHead(200, { ...headers, 'content-type': 'text/html' }).end('<!doctype html>')
    if (!(folder in served) || !existsSync(file)) return void response.writeHead(404).end()
    response.writeHead(200, { ...headers, 'content-length': statSync(file).size })
    if (request.method === 'HEAD') response.end()
    else createReadStream(file).pipe(response)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const browser = await chromium.launch({
    executablePath: process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  })
  const page = await browser.newPage()
  page.setDefaultTimeout(0)
  await page.goto(`http://localhost:${server.address().port}/`)
  const tools = `{
    library: await import('/dist/browser.js'),
    ort: await import('/ort/ort.wasm.min.mjs'),
    checkpoint: '/checkpoint/',
    fetch_bytes: async (path) => new Uint8Array(await (await fetch('/onnx/' + path)).arrayBuffer()),
  }`
  return {
    name: `Chromium ${browser.version()}`,
    call: (text, argument) => page.evaluate(`(async () => (${text})(${tools}, ${JSON.stringify(argument)}))()`),
    async close() {
      await browser.close()
      server.close()
    },
  }
}
