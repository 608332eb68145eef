import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { RepositoryOptions } from '../../ts/hub/index.js'
import { COMMIT, CONFIG, failure, sha256, use_hub, WEIGHTS, WEIGHTS_SHA256 } from './hub_fixture.js'
import { etag_of } from './hub_server.js'

const hub = use_hub()
const FILE = 'model.safetensors'
const ETAG = etag_of({ content: WEIGHTS, lfs: true })

const blob = () => join(hub.folder, 'blobs', ETAG)
const partial = () => `${blob()}.resume.incomplete`
const load = async (options: RepositoryOptions = {}) => hub.bytes(await hub.open(options), FILE)
const ranges = () => hub.server.seen(/model.safetensors/, 'cdn').map(({ headers }) => headers.range)

describe('a connection that fails', () => {
  it('is taken up where it broke', async () => {
    hub.server.faults = [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /safetensors/, drop_after: 200_000 },
    ]
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    const [first, second, third] = ranges()
    expect(first).toBeUndefined()
    expect(Number(/^bytes=(\d+)-/.exec(second ?? '')?.[1])).toBeGreaterThan(0)
    expect(Number(/^bytes=(\d+)-/.exec(third ?? '')?.[1])).toBeGreaterThan(
      Number(/^bytes=(\d+)-/.exec(second ?? '')?.[1]),
    )
  })

  it('is given up after enough attempts without progress, and resumed by the next call', async () => {
    hub.server.faults = [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /cdn.*safetensors/, status: 503, times: 99 },
    ]
    const error = await failure(load({ max_retries: 2 }))
    expect(error.code).toBe('HUB_NETWORK')
    expect(error.message).toMatch(/HTTP 503/)
    expect(error.message).not.toContain('Signature')
    expect(statSync(partial()).size).toBeGreaterThan(0)
    hub.server.reset()
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    expect(ranges()[0]).toMatch(/^bytes=[1-9]/)
    expect(existsSync(partial())).toBe(false)
  })

  it('times out when nothing arrives, before or in the middle of a body', async () => {
    hub.server.faults = [
      { path: /safetensors/, stall_after: 100_000 },
      { path: /safetensors/, stall_after: 0 },
    ]
    expect(sha256(await load({ timeout_ms: 100 }))).toBe(WEIGHTS_SHA256)
    hub.server.reset()
    hub.server.faults = [{ path: /config/, stall_after: 0, times: 99 }]
    const error = await failure((await hub.open({ timeout_ms: 60, max_retries: 1 })).read('config.json'))
    expect(error).toMatchObject({ code: 'HUB_NETWORK' })
    expect(error.message).toMatch(/sent nothing for 0.06 s/)
  })

  it.each([429, 500, 502, 503])('retries HTTP %i', async (status) => {
    hub.server.faults = [
      { path: /revision/, status, headers: { 'retry-after': '0' } },
      { path: /tree/, status },
      { path: /resolve.*config/, status },
    ]
    const bytes = await (await hub.open()).read('config.json')
    expect(Buffer.from(bytes ?? []).toString()).toBe(CONFIG)
  })

  it('says that the hub cannot be reached', async () => {
    const error = await failure(hub.open({ endpoint: 'http://127.0.0.1:9', max_retries: 0 }))
    expect(error.code).toBe('HUB_NETWORK')
    expect(error.message).toMatch(/127.0.0.1:9 could not be reached/)
  })

  it('does not follow redirects for ever, nor away from the web', async () => {
    hub.server.faults = [{ path: /resolve/, redirect: `${hub.server.url}/owner/tiny-switch/resolve/x`, times: 99 }]
    expect((await failure(load())).message).toMatch(/redirected/)
    hub.server.faults = [{ path: /resolve/, redirect: 'file:///etc/passwd' }]
    expect((await failure(load())).code).toBe('HUB_NETWORK')
  })
})

describe('a server that sends something else', () => {
  it.each([/revision/, /tree/, /resolve.*config/, /resolve.*model/])('recognises a login page for %s', async (path) => {
    hub.server.faults = [{ path, html: true }]
    const error = await failure(hub.open().then((repository) => repository.prefetch(['config.json', FILE])))
    expect(error.code).toBe('HUB_NETWORK')
    expect(error.message).toMatch(/sent text\/html instead of (JSON|the file)/)
  })

  it.each([10, -10])('recognises a length that is off by %i', async (length) => {
    hub.server.faults = [{ path: /safetensors/, length }]
    const error = await failure(load())
    expect(error.code).toBe('HUB_INTEGRITY')
    expect(error.message).toContain(`${WEIGHTS.length + length} bytes, expected ${WEIGHTS.length} bytes`)
    expect(existsSync(blob())).toBe(false)
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
  })

  it('deletes bytes with the wrong hash and says so', async () => {
    hub.server.faults = [{ path: /safetensors/, corrupt: true }]
    const error = await failure(load())
    expect(error).toMatchObject({ code: 'HUB_INTEGRITY', details: { expected: ETAG } })
    expect(error.message).toMatch(/wrong hash: [0-9a-f]{64}, expected/)
    expect(readdirSync(join(hub.folder, 'blobs'))).toEqual([])
    hub.server.faults = [{ path: /config/, corrupt: true }]
    expect((await failure((await hub.open()).read('config.json'))).code).toBe('HUB_INTEGRITY')
  })

  it('starts anew where ranges are ignored or refused', async () => {
    hub.server.faults = [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /cdn.*model/, ignore_range: true },
    ]
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    await load({ force_download: true })
    hub.server.reset()
    hub.server.faults = [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /cdn.*model/, refuse_range: true },
    ]
    expect(sha256(await load({ force_download: true }))).toBe(WEIGHTS_SHA256)
    expect(ranges().at(-1)).toBeUndefined()
  })

  it('does not believe a server that refuses every range and never finishes', async () => {
    hub.server.faults = Array.from({ length: 20 }, () => [
      { path: /safetensors/, drop_after: 300_000 },
      { path: /cdn.*model/, refuse_range: true },
    ]).flat()
    expect((await failure(load())).code).toBe('HUB_INTEGRITY')
  })
})

describe('an unfinished file', () => {
  it.each([
    ['of other bytes', Buffer.alloc(500_000, 7)],
    ['that is too long', Buffer.alloc(2_000_000, 7)],
    ['that is whole but wrong', Buffer.alloc(WEIGHTS.length, 7)],
  ])('%s is thrown away', async (_, content) => {
    mkdirSync(join(hub.folder, 'blobs'), { recursive: true })
    writeFileSync(partial(), content)
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
  })

  it('that is whole and right needs no download', async () => {
    mkdirSync(join(hub.folder, 'blobs'), { recursive: true })
    writeFileSync(partial(), WEIGHTS)
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    expect(ranges()).toEqual([])
  })
})

describe('a cache entry that is damaged', () => {
  const damage = {
    'cut short': () => truncateSync(blob(), 100),
    'changed at the same size': () => {
      const bytes = Buffer.from(WEIGHTS)
      bytes[5] = (bytes[5] as number) ^ 1
      writeFileSync(blob(), bytes)
    },
    emptied: () => truncateSync(blob(), 0),
  }
  it.each(Object.entries(damage))('%s is downloaded again, and offline an error', async (_, spoil) => {
    await load()
    spoil()
    const error = await failure(load({ local_files_only: true }))
    expect(error.code).toBe('HUB_INTEGRITY')
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    expect(sha256(readFileSync(blob()))).toBe(WEIGHTS_SHA256)
  })

  it('without its content is downloaded again', async () => {
    await load()
    truncateSync(blob(), 0)
    rmSync(blob())
    expect((await failure(load({ local_files_only: true }))).code).toBe('HUB_OFFLINE')
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
  })

  it('hashes what it did not write itself, once', async () => {
    await load()
    const verified = join(hub.folder, '.switch-transformers', 'verified', ETAG)
    rmSync(verified)
    await load()
    expect(existsSync(verified)).toBe(true)
  })
})

describe('an abort', () => {
  it('stops a download at once, keeps what has arrived, and lets the next call resume', async () => {
    hub.server.faults = [{ path: /safetensors/, stall_after: 300_000 }]
    const controller = new AbortController()
    const repository = await hub.open({
      signal: controller.signal,
      timeout_ms: 30_000,
      progress_callback: (event) => {
        if (event.status === 'progress' && event.loaded > 0) setTimeout(() => controller.abort(new Error('enough')), 50)
      },
    })
    const error = await failure(repository.source(FILE))
    expect(error).toMatchObject({ name: 'AbortError', code: 'ABORTED', cause: { message: 'enough' } })
    expect(statSync(partial()).size).toBeGreaterThan(0)
    hub.server.reset()
    expect(sha256(await load())).toBe(WEIGHTS_SHA256)
    expect(ranges()).toHaveLength(1)
    expect(ranges()[0]).toMatch(/^bytes=[1-9]/)
  })

  it('before the start asks for nothing', async () => {
    const error = await failure(hub.open({ signal: AbortSignal.abort() }))
    expect(error).toMatchObject({ name: 'AbortError', code: 'ABORTED' })
    expect(hub.server.requests).toEqual([])
  })

  it('ends the wait between attempts', async () => {
    hub.server.faults = [{ path: /revision/, status: 503, headers: { 'retry-after': '60' } }]
    const started = Date.now()
    expect((await failure(hub.open({ signal: AbortSignal.timeout(100) }))).code).toBe('ABORTED')
    expect(Date.now() - started).toBeLessThan(5_000)
  })

  it('of one of two callers leaves the other alone', async () => {
    hub.server.faults = [{ path: /safetensors/, slow_ms: 20 }]
    const controller = new AbortController()
    const first = failure((await hub.open({ signal: controller.signal })).source(FILE))
    const second = load()
    setTimeout(() => controller.abort(), 100)
    expect((await first).code).toBe('ABORTED')
    expect(sha256(await second)).toBe(WEIGHTS_SHA256)
  })
})

it('keeps a commit that is only partly cached usable', async () => {
  await (await hub.open({ revision: COMMIT })).read('config.json')
  expect(sha256(await load({ revision: COMMIT }))).toBe(WEIGHTS_SHA256)
})
