/** Hub access and the cache in a real browser, against a hub on loopback that misbehaves. */

import { beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { commands } from 'vitest/browser'
import type { RepositoryOptions } from '../../ts/hub/index.js'
import { open_repository } from '../../ts/hub/index.js'
import { clear_cached, list_cached, type ProgressEvent } from './host.js'
import './hub_commands_types.js'

const NAME = 'owner/tiny-switch'
const COMMIT = 'a'.repeat(40)
const FILE = 'model.safetensors'
const CONFIG = '{"model_type":"switch_transformers"}'
const PIECE = 16 * 2 ** 20
/** A whole piece of the cache and a part of another. */
const SIZE = PIECE + 1_000_000
const PATTERN = FILE.replace('.', '\\.')

let endpoint: string
const open = (options: RepositoryOptions = {}) =>
  open_repository(NAME, { endpoint, retry_delay_ms: 5, timeout_ms: 2000, ...options })

/** Loads the large file and checks its bytes at both ends. */
async function load(options: RepositoryOptions = {}): Promise<number> {
  const source = await (await open(options)).source(FILE)
  const blob = source?.blob as Blob
  for (const at of [0, SIZE - 1]) {
    expect(new Uint8Array(await blob.slice(at, at + 1).arrayBuffer())[0]).toBe(at % 251)
  }
  return blob.size
}

async function code_of(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'nothing',
    (error) => error.code,
  )
}

/** Requests for the large file's bytes. */
async function ranges() {
  return (await commands.hub_requests()).filter(({ path }) => path.startsWith('/cdn/')).map(({ range }) => range)
}

// Once is enough: the hub does not know which module runs.
describe.runIf(inject('artefact') === 'simd')('a hub in a browser', () => {
  beforeEach(async () => {
    await clear_cached(NAME)
    endpoint = await commands.hub_start(NAME, COMMIT, {
      'config.json': { text: CONFIG },
      'empty.txt': { text: '' },
      [FILE]: { bytes: SIZE, lfs: true },
    })
  })

  test('a file is downloaded once, kept, listed and cleared', async () => {
    const events: ProgressEvent[] = []
    expect(await load({ progress_callback: (event) => events.push(event) })).toBe(SIZE)
    expect(events.at(-1)).toMatchObject({ status: 'done', file: FILE })
    expect(await load()).toBe(SIZE)
    expect(await ranges()).toEqual([null])
    expect(await load({ local_files_only: true })).toBe(SIZE)
    const repository = await open()
    expect((await repository.read('empty.txt'))?.length).toBe(0)
    expect(new TextDecoder().decode((await repository.read('config.json')) as Uint8Array)).toBe(CONFIG)
    expect(await list_cached()).toMatchObject([
      { name: NAME, size: SIZE + CONFIG.length, revisions: [{ commit: COMMIT, refs: ['main'] }] },
    ])
    expect(await clear_cached(NAME)).toBe(SIZE + CONFIG.length)
    expect(await list_cached()).toEqual([])
    expect(await code_of(load({ local_files_only: true }))).toBe('HUB_OFFLINE')
  })

  test('a broken and a stalled connection are taken up where they ended', async () => {
    await commands.hub_faults([
      { path: PATTERN, drop_after: 10_000_000 },
      { path: PATTERN, stall_after: 1_000_000 },
    ])
    expect(await load({ timeout_ms: 500 })).toBe(SIZE)
    const [first, second, third] = await ranges()
    expect(first).toBeNull()
    expect(Number(/bytes=(\d+)-/.exec(second ?? '')?.[1])).toBeGreaterThan(0)
    expect(Number(/bytes=(\d+)-/.exec(third ?? '')?.[1])).toBeGreaterThan(0)
  })

  test('a download that was given up goes on in the next call', async () => {
    await commands.hub_faults([{ path: PATTERN, drop_after: PIECE + 500_000 }])
    expect(await code_of(load({ max_retries: 0 }))).toBe('HUB_NETWORK')
    expect(await list_cached()).toMatchObject([{ name: NAME, revisions: [{ files: [] }] }])
    expect(await load()).toBe(SIZE)
    const start = Number(/bytes=(\d+)-/.exec((await ranges())[1] ?? '')?.[1])
    // What was under way when the connection broke may be lost.
    expect(start).toBeGreaterThan(0)
    expect(start).toBeLessThanOrEqual(PIECE + 500_000)
  })

  test('an aborted download keeps what has arrived', async () => {
    await commands.hub_faults([{ path: PATTERN, stall_after: PIECE + 500_000 }])
    const controller = new AbortController()
    const loading = code_of(load({ signal: controller.signal, timeout_ms: 60_000 }))
    await vi.waitFor(async () => expect((await list_cached())[0]?.size ?? 0).toBeGreaterThanOrEqual(PIECE), 20_000)
    controller.abort()
    expect(await loading).toBe('ABORTED')
    expect(await load()).toBe(SIZE)
    expect((await ranges())[1]).toMatch(/^bytes=1[67]\d{6}-/)
  })

  test.each([
    ['404', { status: 404 }, 'HUB_NOT_FOUND'],
    ['HTML', { html: true }, 'HUB_NETWORK'],
    ['416', { status: 416, times: 5 }, 'HUB_INTEGRITY'],
    ['more bytes than announced', { length: 1000 }, 'HUB_INTEGRITY'],
    ['fewer bytes than announced', { length: -1000, times: 9 }, 'HUB_INTEGRITY'],
    ['other bytes', { corrupt: true }, 'HUB_INTEGRITY'],
    ['500', { status: 500, times: 9 }, 'HUB_NETWORK'],
  ] as const)('an answer with %s', async (_, fault, code) => {
    await commands.hub_faults([{ path: PATTERN, ...fault }])
    expect(await code_of(load({ max_retries: 1 }))).toBe(code)
    await commands.hub_faults([])
    expect(await load()).toBe(SIZE)
  })

  test('a corrupt cache entry is noticed and fetched again, and only what follows it', async () => {
    await load()
    const cache = await caches.open('switch-transformers')
    const keys = (await cache.keys()).map(({ url }) => url).filter((url) => url.includes('/blob/'))
    const second = keys.find((url) => url.endsWith('.1')) as string
    const kept = (await cache.match(second)) as Response
    await cache.put(second, new Response(new Uint8Array(1_000_000), { headers: kept.headers }))
    expect(await load()).toBe(SIZE)
    expect((await ranges())[1]).toBe(`bytes=${PIECE}-${SIZE - 1}`)
  })

  test('without room in the cache, a file is used and the reason is told', async () => {
    const put = vi.spyOn(Cache.prototype, 'put').mockRejectedValue(new DOMException('full', 'QuotaExceededError'))
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    try {
      const events: ProgressEvent[] = []
      expect(await load({ progress_callback: (event) => events.push(event) })).toBe(SIZE)
      expect(warn).toHaveBeenCalledWith(
        expect.stringMatching(/used but not kept: the browser has no room.*clear_cached/),
      )
      expect(events.find(({ status }) => status === 'not_kept')).toMatchObject({
        file: FILE,
        reason: 'quota',
        usage: expect.any(Number),
        quota: expect.any(Number),
      })
      expect(await list_cached()).toEqual([])
    } finally {
      put.mockRestore()
      warn.mockRestore()
    }
  })

  describe('under an address', () => {
    const at_address = (options: RepositoryOptions = {}) =>
      open_repository(`${endpoint}/${NAME}/resolve/main/`, { retry_delay_ms: 5, timeout_ms: 500, ...options })
    const size_of = async (options?: RepositoryOptions) =>
      (await (await at_address(options)).source(FILE))?.size ?? 'not there'

    test('a broken and a stalled connection are tried again', async () => {
      await commands.hub_faults([
        { path: PATTERN, drop_after: 10_000_000 },
        { path: PATTERN, stall_after: 1_000_000 },
        { path: PATTERN, status: 503 },
      ])
      expect(await size_of()).toBe(SIZE)
    })

    test.each([
      ['404', { status: 404 }, 'not there'],
      ['HTML', { html: true }, 'not there'],
      ['416', { status: 416 }, 'HUB_NETWORK'],
      ['403', { status: 403 }, 'HUB_UNAUTHORIZED'],
      ['500', { status: 500, times: 9 }, 'HUB_NETWORK'],
      ['a connection that always breaks', { drop_after: 1000, times: 9 }, 'HUB_NETWORK'],
      ['a connection that always stalls', { stall_after: 1000, times: 9 }, 'HUB_NETWORK'],
    ] as const)('%s', async (_, fault, expected) => {
      await commands.hub_faults([{ path: PATTERN, ...fault }])
      expect(await size_of({ max_retries: 1 }).catch((error) => error.code)).toBe(expected)
      await commands.hub_faults([])
      expect(await size_of()).toBe(SIZE)
    })

    test('an abort', async () => {
      await commands.hub_faults([{ path: PATTERN, stall_after: 1000 }])
      const loading = size_of({ signal: AbortSignal.timeout(100), timeout_ms: 60_000 })
      expect(await loading.catch((error) => error.code)).toBe('ABORTED')
    })
  })
})
