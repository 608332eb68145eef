import { request } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type DemoServer, serve } from './server.js'

let server: DemoServer

beforeAll(async () => {
  server = await serve('--port', '0')
})

afterAll(() => server?.stop())

/** Asks for a path as it stands: `fetch` would tidy it. */
function ask(
  path: string,
  method = 'GET',
): Promise<{ status: number; headers: Record<string, unknown>; size: number }> {
  const { port } = new URL(server.url)
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, method }, (response) => {
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, size }))
    })
      .on('error', reject)
      .end()
  })
}

it.each([
  ['/', 'text/html; charset=utf-8'],
  ['/main.js', 'text/javascript; charset=utf-8'],
  ['/styles.css', 'text/css; charset=utf-8'],
  ['/icon.svg', 'image/svg+xml'],
  ['/dist/browser.js', 'text/javascript; charset=utf-8'],
  ['/dist/switch_transformers.wasm', 'application/wasm'],
  ['/dist/assets/g2p/config.json', 'application/json; charset=utf-8'],
])('serves %s as what it is, isolated and under a policy', async (path, type) => {
  const { status, headers, size } = await ask(path)
  expect([status, headers['content-type'], size]).toEqual([200, type, Number(headers['content-length'])])
  expect(headers['cross-origin-opener-policy']).toBe('same-origin')
  expect(headers['cross-origin-embedder-policy']).toBe('require-corp')
  expect(headers['content-security-policy']).toMatch(/script-src 'self' 'wasm-unsafe-eval' 'sha256-[^']+';/)
  const head = await ask(path, 'HEAD')
  expect([head.status, head.size, head.headers['content-length']]).toEqual([200, 0, headers['content-length']])
})

it.each([
  '/nothing.js',
  '/dist/',
  '/dist/../package.json',
  '/../../package.json',
  '/..%2f..%2fpackage.json',
  '/dist/%2e%2e/%2e%2e/package.json',
  '/%00.js',
  '/%',
  '/serve.mjs',
  '//',
])('has nothing at %s', async (path) => {
  expect((await ask(path)).status).toBe(404)
})

it('answers nothing but questions', async () => {
  expect((await ask('/', 'POST')).status).toBe(405)
})

it.each([
  [['--port', 'x'], /--port must be a number/],
  [['--port', '70000'], /--port must be a number/],
  [['--prot', '1'], /usage: npm run demo/],
])('refuses %j', async (args, message) => {
  await expect(serve(...args)).rejects.toThrow(message)
})

it('says so when the port is taken', async () => {
  await expect(serve('--port', new URL(server.url).port)).rejects.toThrow(/is taken: choose another/)
})
