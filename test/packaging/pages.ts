/** Serves a folder as a user's server would, and says what Chromium made of a page. */

import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'
import { type Browser, chromium } from 'playwright-core'
import { chromium_options } from '../browser/chromium.js'

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
}

export interface Served {
  url: string
  /** Paths that were asked for. */
  requests: string[]
  close(): void
}

/** Serves the files of a folder with these headers, and parts of them where `has_ranges`. */
export async function serve_folder(
  folder: string,
  headers: Record<string, string> = {},
  has_ranges = false,
): Promise<Served> {
  const requests: string[] = []
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname)
    requests.push(path)
    const file = join(folder, normalize(path.endsWith('/') ? `${path}index.html` : path))
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) {
      return void response.writeHead(404).end()
    }
    const type = TYPES[extname(file)] ?? 'application/octet-stream'
    const { size } = statSync(file)
    const range = /^bytes=(\d+)-(\d+)$/.exec(has_ranges ? (request.headers.range ?? '') : '')
    const [start, end] = range ? [Number(range[1]), Math.min(Number(range[2]), size - 1)] : [0, size - 1]
    const bytes = read_part(file, start, end + 1)
    response.writeHead(range ? 206 : 200, {
      'content-type': type,
      'content-length': bytes.length,
      ...(range && { 'content-range': `bytes ${start}-${end}/${size}` }),
      ...headers,
    })
    response.end(request.method === 'HEAD' ? undefined : bytes)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://localhost:${port}/`, requests, close: () => server.close() }
}

function read_part(file: string, start: number, end: number): Buffer {
  const bytes = Buffer.allocUnsafe(end - start)
  const open = openSync(file, 'r')
  try {
    for (let at = 0; at < bytes.length; ) at += readSync(open, bytes, at, bytes.length - at, start + at)
  } finally {
    closeSync(open)
  }
  return bytes
}

export function start_browser(): Promise<Browser> {
  return chromium.launch(chromium_options)
}

/** Opens a page and waits until it has written into `#result`. */
export async function result_of(browser: Browser, url: string): Promise<string> {
  const page = await browser.newPage()
  const said: string[] = []
  page.on('console', (message) => said.push(message.text()))
  page.on('pageerror', (error) => said.push(String(error)))
  try {
    await page.goto(url)
    // Not by a function: the page's policy allows no eval.
    const result = page.locator('#result:not(:empty)')
    await result.waitFor({ timeout: 60_000 })
    return (await result.textContent()) as string
  } catch (error) {
    throw new Error(`${url} came to nothing. It said: ${said.join('\n') || 'nothing'}`, { cause: error })
  } finally {
    await page.close()
  }
}
