import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { type ProgressEvent, required_file } from '../../ts/hub/index.js'
import {
  COMMIT,
  CONFIG,
  failure,
  NAME,
  OLD_COMMIT,
  sha256,
  TOKEN,
  text,
  use_hub,
  WEIGHTS,
  WEIGHTS_SHA256,
} from './hub_fixture.js'
import { etag_of } from './hub_server.js'

const hub = use_hub()
const decode = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString())

describe('a fresh download', () => {
  it('gives every file, small or large, and null for what is absent', async () => {
    const repository = await hub.open()
    expect(repository.name).toBe(NAME)
    expect(repository.commit).toBe(COMMIT)
    expect(await repository.list()).toEqual(['config.json', 'empty.txt', 'model.safetensors', 'nested/part.json'])
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(decode(await repository.read('empty.txt'))).toBe('')
    expect(decode(await repository.read('nested/part.json'))).toBe('{"nested":true}')
    expect(sha256(await hub.bytes(repository, 'model.safetensors'))).toBe(WEIGHTS_SHA256)
    expect(await repository.read('tokenizer.json')).toBeNull()
    expect(await repository.source('tokenizer.json')).toBeNull()
  })

  it('lays the cache out as the Python client does', async () => {
    const repository = await hub.open()
    const source = await repository.source('model.safetensors')
    const blob = join(hub.folder, 'blobs', etag_of({ content: WEIGHTS, lfs: true }))
    expect(readFileSync(join(hub.folder, 'refs', 'main'), 'utf8')).toBe(COMMIT)
    expect(source?.path).toBe(join(hub.folder, 'snapshots', COMMIT, 'model.safetensors'))
    expect(readlinkSync(source?.path as string)).toBe(
      join('..', '..', 'blobs', etag_of({ content: WEIGHTS, lfs: true })),
    )
    expect(sha256(readFileSync(blob))).toBe(WEIGHTS_SHA256)
    await repository.read('nested/part.json')
    const nested = join(hub.folder, 'snapshots', COMMIT, 'nested', 'part.json')
    expect(readlinkSync(nested)).toBe(join('..', '..', '..', 'blobs', etag_of(text('{"nested":true}'))))
    // Nothing unfinished and no lock is left.
    expect(readdirSync(join(hub.folder, 'blobs')).filter((name) => !/^[0-9a-f]+$/.test(name))).toEqual([])
    expect(readdirSync(join(hub.cache, '.locks', 'models--owner--tiny-switch'))).toEqual([])
  })

  it('copies where links are not wanted', async () => {
    vi.stubEnv('HF_HUB_DISABLE_SYMLINKS', '1')
    const source = await (await hub.open()).source('model.safetensors')
    expect(lstatSync(source?.path as string).isFile()).toBe(true)
    hub.server.reset()
    expect(sha256(await hub.bytes(await hub.open(), 'model.safetensors'))).toBe(WEIGHTS_SHA256)
    expect(hub.server.seen(/model.safetensors/)).toEqual([])
  })

  it('downloads nothing twice, and asks for the commit only', async () => {
    await (await hub.open()).prefetch(['config.json', 'model.safetensors'])
    hub.server.reset()
    const repository = await hub.open()
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(sha256(await hub.bytes(repository, 'model.safetensors'))).toBe(WEIGHTS_SHA256)
    expect(hub.server.requests.map(({ path }) => path)).toEqual([`/api/models/${NAME}/revision/main`])
  })

  it('downloads again with force_download', async () => {
    await (await hub.open()).read('config.json')
    hub.server.reset()
    await (await hub.open({ force_download: true })).read('config.json')
    expect(hub.server.seen(/resolve.*config.json/)).toHaveLength(1)
  })

  it('reads a listing of several pages', async () => {
    hub.server.page_size = 1
    expect(await (await hub.open()).list()).toHaveLength(4)
  })
})

describe('revisions and subfolders', () => {
  it('follows a branch when it moves', async () => {
    const served = hub.server.repositories[NAME]
    if (!served) throw new Error('no repository')
    await (await hub.open()).read('config.json')
    served.refs = { main: OLD_COMMIT }
    expect(decode(await (await hub.open()).read('config.json'))).toBe('{"old":true}')
    expect(readFileSync(join(hub.folder, 'refs', 'main'), 'utf8')).toBe(OLD_COMMIT)
  })

  it('reads a commit without asking what it is, and offline nothing at all', async () => {
    const repository = await hub.open({ revision: OLD_COMMIT })
    expect(decode(await repository.read('config.json'))).toBe('{"old":true}')
    expect(hub.server.seen(/\/revision\//)).toEqual([])
    hub.server.reset()
    expect(decode(await (await hub.open({ revision: OLD_COMMIT })).read('config.json'))).toBe('{"old":true}')
    expect(hub.server.requests).toEqual([])
  })

  it('reads a revision with slashes in its name', async () => {
    const repository = await hub.open({ revision: 'refs/pr/1' })
    expect(repository.commit).toBe(OLD_COMMIT)
    await repository.read('config.json')
    expect(readFileSync(join(hub.folder, 'refs', 'refs', 'pr', '1'), 'utf8')).toBe(OLD_COMMIT)
  })

  it('reads from a subfolder', async () => {
    const repository = await hub.open({ subfolder: 'nested' })
    expect(await repository.list()).toEqual(['part.json'])
    expect(decode(await repository.read('part.json'))).toBe('{"nested":true}')
    expect(await repository.read('config.json')).toBeNull()
  })
})

describe('progress', () => {
  it('sends the events of transformers.js, and a total over all files from the first on', async () => {
    const events: ProgressEvent[] = []
    const repository = await hub.open({ progress_callback: (event) => events.push(event) })
    await repository.prefetch(['config.json', 'model.safetensors', 'not-there.json'])
    const of = (file: string) =>
      events.filter((event) => 'file' in event && event.file === file).map(({ status }) => status)
    for (const file of ['config.json', 'model.safetensors']) {
      const statuses = of(file)
      expect(statuses.slice(0, 3)).toEqual(['initiate', 'download', 'progress'])
      expect(statuses.at(-1)).toBe('done')
      const last = events.findLast((event) => event.status === 'progress' && event.file === file)
      expect(last).toMatchObject({ name: NAME, progress: 100 })
    }
    expect(of('not-there.json')).toEqual([])
    const totals = events.filter((event) => event.status === 'progress_total')
    const size = WEIGHTS.length + CONFIG.length
    expect(totals.every(({ total }) => total === size)).toBe(true)
    expect(totals.map(({ loaded }) => loaded)).toEqual(totals.map(({ loaded }) => loaded).sort((a, b) => a - b))
    expect(totals.at(-1)).toMatchObject({
      progress: 100,
      loaded: size,
      files: { 'model.safetensors': { loaded: WEIGHTS.length, total: WEIGHTS.length } },
    })
  })

  it('sends no download event for what is cached', async () => {
    await (await hub.open()).read('config.json')
    const events: ProgressEvent[] = []
    await (await hub.open({ progress_callback: (event) => events.push(event) })).read('config.json')
    expect(events.map(({ status }) => status)).toEqual(['initiate', 'progress_total', 'progress', 'done'])
  })
})

describe('access', () => {
  it('sends the token to the hub and to no other host', async () => {
    vi.stubEnv('HF_TOKEN', TOKEN)
    await (await hub.open()).source('model.safetensors')
    expect(hub.server.requests.filter(({ host }) => host === 'cdn')).toHaveLength(1)
    for (const { host, headers } of hub.server.requests) {
      expect(headers.authorization).toBe(host === 'hub' ? `Bearer ${TOKEN}` : undefined)
    }
  })

  it.each([
    ['an unknown repository', 'owner/missing', {}, 'HUB_NOT_FOUND', /no repository "owner\/missing".*HF_TOKEN/],
    ['an unknown revision', NAME, { revision: 'v9' }, 'HUB_NOT_FOUND', /no revision "v9"/],
    ['an unknown commit', NAME, { revision: 'c'.repeat(40) }, 'HUB_NOT_FOUND', /no revision "cccc/],
  ])('says what is wrong with %s', async (_, name, options, code, message) => {
    const error = await failure(hub.open(options, name).then((repository) => repository.list()))
    expect(error).toMatchObject({ code, name: 'HubError' })
    expect(error.message).toMatch(message)
  })

  it('needs the token of a private repository', async () => {
    Object.assign(hub.server.repositories[NAME] as object, { token: TOKEN })
    expect((await failure(hub.open())).code).toBe('HUB_NOT_FOUND')
    expect(decode(await (await hub.open({ token: TOKEN })).read('config.json'))).toBe(CONFIG)
  })

  it('explains a gated repository', async () => {
    Object.assign(hub.server.repositories[NAME] as object, { token: TOKEN, gated: true })
    const without = await failure((await hub.open()).read('config.json'))
    expect(without.code).toBe('HUB_UNAUTHORIZED')
    expect(without.message).toMatch(/Ask for access at .*owner\/tiny-switch, then set HF_TOKEN/)
    const wrong = await failure((await hub.open({ token: 'hf_other' })).read('config.json'))
    expect(wrong.code).toBe('HUB_UNAUTHORIZED')
    expect(wrong.message).not.toContain('hf_other')
    expect(decode(await (await hub.open({ token: TOKEN })).read('config.json'))).toBe(CONFIG)
  })

  it('tells an invalid token from a missing one', async () => {
    hub.server.faults = [{ path: /revision/, status: 401, times: 2 }]
    expect((await failure(hub.open({ token: 'hf_old' }))).message).toMatch(/invalid or expired/)
    expect((await failure(hub.open())).message).toMatch(/wants a token/)
  })

  it('names what a repository has where a needed file is absent', async () => {
    const error = await failure(required_file(await hub.open(), 'tokenizer.json'))
    expect(error.code).toBe('HUB_NOT_FOUND')
    expect(error.message).toContain('has no tokenizer.json at revision main. It has config.json, empty.txt')
  })
})

describe('names', () => {
  it.each(['../x', 'a/../b', '/etc/passwd', 'a\\b', 'C:x', 'a//b', '', 'a\0b'])(
    'refuses the file name %j',
    async (file) => {
      const repository = await hub.open()
      expect((await failure(repository.read(file))).code).toBe('INVALID_INPUT')
      expect((await failure(repository.source(file))).code).toBe('INVALID_INPUT')
    },
  )

  it.each(['a/b/c', 'owner/..x', '-a/b', 'a--b/c', 'owner/na me', 'https://huggingface.co/a/b', 'a/b.git', '', ' '])(
    'refuses the repository name %j',
    async (name) => {
      expect((await failure(hub.open({}, name))).code).toBe('INVALID_INPUT')
      expect(hub.server.requests).toEqual([])
    },
  )

  it.each(['../main', 'a b', 'x?y', ''])('refuses the revision %j', async (revision) => {
    expect((await failure(hub.open({ revision }))).code).toBe('INVALID_INPUT')
  })

  it('ignores a listed file whose name leads out of the cache', async () => {
    const evil = { type: 'file', path: '../../evil', size: 1, oid: 'a'.repeat(40) }
    hub.server.faults = [{ path: /tree/, json: (body) => [...(body as unknown[]), evil] }]
    const repository = await hub.open()
    await repository.prefetch(await repository.list())
    expect(existsSync(join(hub.folder, 'evil'))).toBe(false)
    expect(await repository.list()).not.toContain('../../evil')
  })

  it.each([
    ['hash', { path: 'x', type: 'file', size: 1, oid: '../../x' }],
    ['size', { path: 'x', type: 'file', size: -1, oid: 'a'.repeat(40) }],
  ])('refuses a listing with an impossible %s', async (what, entry) => {
    hub.server.faults = [{ path: /tree/, json: () => [entry] }]
    const error = await failure((await hub.open()).list())
    expect(error).toMatchObject({ code: 'HUB_NETWORK' })
    expect(error.message).toContain(`the ${what}`)
  })

  it.each([{ token: 'hf_a\nb' }, { endpoint: 'ftp://x' }, { timeout_ms: 0 }, { max_retries: -1 }])(
    'refuses the options %j',
    async (options) => {
      expect((await failure(hub.open(options))).code).toBe('INVALID_OPTION')
    },
  )
})
