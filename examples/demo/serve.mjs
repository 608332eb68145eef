/**
 * `npm run demo`: serves the page and the built library on this computer alone.
 *
 * The headers are those that the library asks of any server: isolation from other origins, which threads need, and a
 * content security policy that lets the page compile WASM and start a worker of its own, and nothing else.
 */

import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join, normalize, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const page = fileURLToPath(new URL('.', import.meta.url))
const library = fileURLToPath(new URL('../../dist/', import.meta.url))

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.safetensors': 'application/octet-stream',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
}

/** Import maps can only stand in the page itself, so the policy names this one by its hash. */
function content_security_policy() {
  const [, map] = /<script type="importmap">([\s\S]*?)<\/script>/.exec(readFileSync(join(page, 'index.html'), 'utf8'))
  const hash = createHash('sha256').update(map).digest('base64')
  return [
    "default-src 'self'",
    `script-src 'self' 'wasm-unsafe-eval' 'sha256-${hash}'`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

/** The file that an address means: `/dist/…` is the library, everything else the page. Null where there is none. */
function file_of(url) {
  let path
  try {
    path = normalize(decodeURIComponent(new URL(url, 'http://localhost').pathname))
  } catch {
    return null
  }
  if (path.includes('\0')) return null
  const [root, name] = path.startsWith(`${sep}dist${sep}`) ? [library, path.slice(6)] : [page, path.slice(1)]
  const file = join(root, name === '' ? 'index.html' : name)
  if (!file.startsWith(root) || !(extname(file) in TYPES)) return null
  return statSync(file, { throwIfNoEntry: false })?.isFile() ? file : null
}

function answer(request, response) {
  const plain = (status, text) => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' })
    response.end(text)
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'GET and HEAD only')
  const file = file_of(request.url)
  if (file === null) return plain(404, 'not found')
  response.writeHead(200, {
    'content-type': TYPES[extname(file)],
    'content-length': statSync(file).size,
    'cache-control': 'no-cache',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
    'content-security-policy': content_security_policy(),
    'x-content-type-options': 'nosniff',
  })
  if (request.method === 'HEAD') return response.end()
  createReadStream(file)
    .on('error', () => response.destroy())
    .pipe(response)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

function port_option() {
  try {
    const { port } = parseArgs({ options: { port: { type: 'string', default: '8080' } } }).values
    const number = Number(port)
    if (/^\d+$/.test(port) && number <= 65535) return number
    return fail(`--port must be a number from 0 (any free port) to 65535, not ${port}`)
  } catch (error) {
    return fail(`${error.message}\nusage: npm run demo -- [--port NUMBER]`)
  }
}

const port = port_option()
if (!existsSync(join(library, 'browser.js'))) fail('The library is not built: run "npm run setup" first.')
const server = createServer(answer)
server.on('error', (error) => {
  const taken = error.code === 'EADDRINUSE' ? `Port ${port} is taken: choose another with --port.` : error.message
  fail(taken)
})
server.listen(port, '127.0.0.1', () => {
  console.log(`The demo is at http://127.0.0.1:${server.address().port}/ (end it with Ctrl+C)`)
})
