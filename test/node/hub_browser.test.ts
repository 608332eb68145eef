/** The browser's hub access, with the parts of a browser that it needs. Real browsers run it in the browser suite. */

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { browser_platform } from '../../ts/hub/browser.js'
import { type ProgressEvent, type RepositoryOptions, required_file, weights_files } from '../../ts/hub/index.js'
import { COMMIT, CONFIG, failure, NAME, sha256, TOKEN, use_hub, WEIGHTS, WEIGHTS_SHA256 } from './hub_fixture.js'

const hub = use_hub()
const FILE = 'model.safetensors'
const decode = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString())
const open = (options: RepositoryOptions = {}, name = NAME) =>
  browser_platform.open_repository(name, { endpoint: hub.server.url, retry_delay_ms: 5, timeout_ms: 400, ...options })

async function load(options: RepositoryOptions = {}): Promise<string> {
  const source = await (await open(options)).source(FILE)
  return sha256(new Uint8Array((await source?.blob?.arrayBuffer()) ?? []))
}

/** As much of a browser's CacheStorage as is used. */
class FakeCache {
  readonly entries = new Map<string, Blob>()
  readonly #headers = new Map<string, Headers>()
  full = false

  async match(key: string): Promise<Response | undefined> {
    const blob = this.entries.get(key)
    return blob && new Response(blob, { headers: this.#headers.get(key) ?? {} })
  }
  async put(key: string, response: Response): Promise<void> {
    const blob = await response.blob()
    if (this.full) throw new DOMException('No room', 'QuotaExceededError')
    this.entries.set(key, blob)
    this.#headers.set(key, response.headers)
  }
  async delete(key: string): Promise<boolean> {
    return this.entries.delete(key)
  }
  async keys(): Promise<{ url: string }[]> {
    return [...this.entries.keys()].map((url) => ({ url }))
  }
}

let cache: FakeCache
beforeEach(() => {
  cache = new FakeCache()
  vi.stubGlobal('caches', { open: async () => cache })
  return () => vi.unstubAllGlobals()
})

describe('a hub repository', () => {
  it('is downloaded once and then read from the cache', async () => {
    const events: ProgressEvent[] = []
    const repository = await open({ progress_callback: (event) => events.push(event) })
    await repository.prefetch(['config.json', FILE, 'absent.json'])
    expect(repository.commit).toBe(COMMIT)
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(await weights_files(repository)).toEqual({ files: [FILE] })
    expect(await repository.read('absent.json')).toBeNull()
    expect((await failure(required_file(repository, 'absent.json'))).code).toBe('HUB_NOT_FOUND')
    expect(events.findLast((event) => event.status === 'progress_total')).toMatchObject({
      loaded: WEIGHTS.length + CONFIG.length,
      progress: 100,
    })
    expect(await load()).toBe(WEIGHTS_SHA256)
    hub.server.reset()
    expect(await load()).toBe(WEIGHTS_SHA256)
    expect(hub.server.requests.map(({ path }) => path)).toEqual([`/api/models/${NAME}/revision/main`])
    hub.server.reset()
    expect(await load({ local_files_only: true })).toBe(WEIGHTS_SHA256)
    expect(hub.server.requests).toEqual([])
  })

  it('goes on after a broken connection and starts anew where ranges are ignored', async () => {
    hub.server.faults = [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /safetensors/, stall_after: 300_000 },
      { path: /cdn.*safetensors/, ignore_range: true },
    ]
    expect(await load({ timeout_ms: 100 })).toBe(WEIGHTS_SHA256)
  })

  it('notices wrong bytes, from the hub and in the cache', async () => {
    hub.server.faults = [{ path: /safetensors/, corrupt: true }]
    expect((await failure(load())).code).toBe('HUB_INTEGRITY')
    await load()
    const key = [...cache.entries.keys()].find(
      (each) => (cache.entries.get(each)?.size ?? 0) === WEIGHTS.length,
    ) as string
    for (const spoilt of [new Blob([Buffer.alloc(WEIGHTS.length)]), new Blob(['short'])]) {
      cache.entries.set(key, spoilt)
      expect(await load()).toBe(WEIGHTS_SHA256)
    }
  })

  it.each(['full', 'missing'])('works without keeping files where the cache is %s', async (what) => {
    if (what === 'full') cache.full = true
    else vi.stubGlobal('caches', undefined)
    expect(await load()).toBe(WEIGHTS_SHA256)
    expect((await failure(load({ local_files_only: true }))).code).toBe('HUB_OFFLINE')
  })

  it('sends the token, and explains where one is needed', async () => {
    Object.assign(hub.server.repositories[NAME] as object, { token: TOKEN, gated: true })
    expect((await failure(load())).code).toBe('HUB_UNAUTHORIZED')
    expect(await load({ token: TOKEN })).toBe(WEIGHTS_SHA256)
  })

  it('aborts', async () => {
    hub.server.faults = [{ path: /safetensors/, stall_after: 300_000 }]
    expect(await failure(load({ signal: AbortSignal.timeout(50) }))).toMatchObject({ code: 'ABORTED' })
  })

  it('is listed and cleared', async () => {
    await load()
    expect(await browser_platform.list_cached({})).toEqual([
      {
        name: NAME,
        size: WEIGHTS.length,
        revisions: [{ commit: COMMIT, refs: ['main'], files: [{ name: FILE, size: WEIGHTS.length }] }],
      },
    ])
    expect(await browser_platform.clear_cached(NAME, {})).toBe(WEIGHTS.length)
    expect(await browser_platform.list_cached({})).toEqual([])
    expect(cache.entries.size).toBe(0)
  })
})

describe('an address', () => {
  let server: Server
  let base: string
  const files: Record<string, string | Buffer> = { 'config.json': CONFIG, [FILE]: WEIGHTS }

  beforeAll(async () => {
    server = createServer((request, response) => {
      const content = files[(request.url ?? '').replace('/models/tiny/', '')]
      if (content === undefined) response.writeHead(404).end()
      else response.end(request.method === 'HEAD' ? undefined : content)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/models/tiny`
  })
  afterAll(() => server.close())

  it('is read in parts where it is large and its server gives them', async () => {
    const size = 500e6
    let gives_parts = true
    const large = createServer((request, response) => {
      const is_part = gives_parts && request.headers.range === 'bytes=0-0'
      response.writeHead(is_part ? 206 : 200, { 'content-length': is_part ? 1 : size })
      if (request.method === 'HEAD') response.end()
      else if (is_part) response.end('x')
      else response.write('x')
    })
    await new Promise<void>((resolve) => large.listen(0, '127.0.0.1', resolve))
    const address = `http://127.0.0.1:${(large.address() as AddressInfo).port}/`
    try {
      const events: ProgressEvent[] = []
      const repository = await open({ progress_callback: (event) => events.push(event) }, address)
      expect(await repository.source(FILE)).toMatchObject({ name: FILE, size, address: { url: address + FILE } })
      expect((await failure(repository.read(FILE))).code).toBe('INVALID_INPUT')
      // Callbacks are not called more often.
      await new Promise((resolve) => setTimeout(resolve, 60))
      repository.loaded?.(50)
      expect(events.at(-1)).toMatchObject({ status: 'progress', file: FILE, loaded: size / 2, total: size })
      repository.loaded?.(100)
      expect(events.at(-1)).toMatchObject({ status: 'done', file: FILE })
      // Whole, otherwise: here it stalls.
      const stalls = { code: 'HUB_NETWORK' }
      const whole = async (options: RepositoryOptions) =>
        failure((await open({ ...options, timeout_ms: 50, max_retries: 0 }, address)).source(FILE))
      expect(await whole({ fetch: (input, init) => fetch(input, init) })).toMatchObject(stalls)
      gives_parts = false
      expect(await whole({})).toMatchObject(stalls)
    } finally {
      large.closeAllConnections()
      large.close()
    }
  })

  it('is read like a folder', async () => {
    const repository = await open({}, base)
    expect(await repository.list()).toEqual(['config.json', FILE])
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(await weights_files(repository)).toEqual({ files: [FILE] })
    expect(await repository.source('tokenizer.json')).toBeNull()
    expect(await failure(required_file(repository, 'tokenizer.json'))).toMatchObject({
      code: 'FILE_NOT_FOUND',
      message: expect.stringContaining('It has config.json'),
    })
    expect((await failure(repository.read('../secret'))).code).toBe('INVALID_INPUT')
    const source = await repository.source(FILE)
    expect(source).toMatchObject({ name: FILE, size: source?.blob?.size })
    repository.close()
  })
})
