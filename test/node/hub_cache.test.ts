import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'rolldown'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { clear_cached, list_cached, open_repository, required_file, weights_files } from '../../ts/hub/index.js'
import { cache_directory } from '../../ts/hub/node/environment.js'
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
import { etag_of, type HubFile } from './hub_server.js'

const hub = use_hub()
const FILE = 'model.safetensors'
const ETAG = etag_of({ content: WEIGHTS, lfs: true })
const decode = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString())

describe('offline', () => {
  it.each([
    ['local_files_only', { local_files_only: true }, {}],
    ['HF_HUB_OFFLINE', {}, { HF_HUB_OFFLINE: '1' }],
    ['TRANSFORMERS_OFFLINE', { local_files_only: false }, { TRANSFORMERS_OFFLINE: 'true' }],
  ])('reads the cache, and names what it lacks, with %s', async (_, options, variables) => {
    await (await hub.open()).read('config.json')
    hub.server.reset()
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value)
    const repository = await hub.open(options)
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(await repository.read('not-in-the-repository.json')).toBeNull()
    const error = await failure(repository.source(FILE))
    expect(error.code).toBe('HUB_OFFLINE')
    expect(error.message).toContain(FILE)
    const other = await failure(hub.open(options, 'owner/other'))
    expect(other.code).toBe('HUB_OFFLINE')
    expect(other.message).toContain('owner/other')
    expect((await failure(hub.open({ ...options, revision: 'v2' }))).message).toContain('v2')
    expect(hub.server.requests).toEqual([])
  })

  it('uses the cache when the hub cannot be reached, without insisting', async () => {
    await (await hub.open()).read('config.json')
    const started = Date.now()
    const repository = await hub.open({ endpoint: 'http://127.0.0.1:9', retry_delay_ms: 3_000 })
    expect(decode(await repository.read('config.json'))).toBe(CONFIG)
    expect(Date.now() - started).toBeLessThan(2_000)
    const error = await failure(repository.source(FILE))
    expect(error.code).toBe('HUB_NETWORK')
    expect(error.message).toMatch(/not in the cache.*could not be reached/)
  })

  it('reads what the Python client wrote', async () => {
    const write = (file: string, entry: HubFile) => {
      const blob = join(hub.folder, 'blobs', etag_of(entry))
      const pointer = join(hub.folder, 'snapshots', COMMIT, file)
      mkdirSync(dirname(blob), { recursive: true })
      mkdirSync(dirname(pointer), { recursive: true })
      writeFileSync(blob, entry.content)
      symlinkSync(relative(dirname(pointer), blob), pointer)
    }
    write('config.json', text(CONFIG))
    write(FILE, { content: WEIGHTS, lfs: true })
    mkdirSync(join(hub.folder, 'refs'))
    writeFileSync(join(hub.folder, 'refs', 'main'), COMMIT)
    const repository = await hub.open({ local_files_only: true })
    expect(await repository.list()).toEqual(['config.json', FILE])
    expect(sha256(await hub.bytes(repository, FILE))).toBe(WEIGHTS_SHA256)
    expect(await weights_files(repository)).toEqual({ files: [FILE] })
    // What else the repository has was never told: the cache cannot say whether it has a tokenizer.
    expect(await repository.read('tokenizer.json')).toBeNull()
    expect((await failure(required_file(repository, 'tokenizer.json'))).code).toBe('HUB_OFFLINE')
    hub.server.reset()
    expect(sha256(await hub.bytes(await hub.open(), FILE))).toBe(WEIGHTS_SHA256)
    expect(hub.server.seen(/resolve|cdn/)).toEqual([])
  })
})

describe('settings', () => {
  it('finds the cache as the Python client does', () => {
    vi.stubEnv('HF_HOME', undefined)
    expect(cache_directory()).toBe(join(homedir(), '.cache', 'huggingface', 'hub'))
    vi.stubEnv('XDG_CACHE_HOME', '/xdg')
    expect(cache_directory()).toBe(join('/xdg', 'huggingface', 'hub'))
    vi.stubEnv('HF_HOME', '~/hf')
    expect(cache_directory()).toBe(join(homedir(), 'hf', 'hub'))
    vi.stubEnv('HUGGINGFACE_HUB_CACHE', '/old')
    expect(cache_directory()).toBe('/old')
    vi.stubEnv('HF_HUB_CACHE', '$XDG_CACHE_HOME/new')
    expect(cache_directory()).toBe('/xdg/new')
    expect(cache_directory('/given')).toBe('/given')
  })

  it.each([
    ['HF_TOKEN', { HF_TOKEN: ` ${TOKEN}\n` }, `Bearer ${TOKEN}`],
    ['the old variable', { HUGGING_FACE_HUB_TOKEN: TOKEN }, `Bearer ${TOKEN}`],
    ['no token', {}, undefined],
  ])('sends the token of %s', async (_, variables, header) => {
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value)
    await hub.open()
    expect(hub.server.requests[0]?.headers.authorization).toBe(header)
    await hub.open({ token: false })
    expect(hub.server.requests[1]?.headers.authorization).toBeUndefined()
  })

  it('sends the token of the file that a login writes, unless told not to', async () => {
    writeFileSync(join(hub.home, 'token'), `${TOKEN}\n`)
    await hub.open()
    expect(hub.server.requests[0]?.headers.authorization).toBe(`Bearer ${TOKEN}`)
    vi.stubEnv('HF_HUB_DISABLE_IMPLICIT_TOKEN', '1')
    await hub.open()
    expect(hub.server.requests[1]?.headers.authorization).toBeUndefined()
  })

  it('goes through a fetch that it is given', async () => {
    const asked: string[] = []
    const repository = await hub.open({
      fetch: (input, init) => {
        asked.push(new URL(String(input)).pathname)
        return fetch(input, init)
      },
    })
    await repository.source(FILE)
    expect(asked).toHaveLength(hub.server.requests.length)
  })

  it('writes to cache_dir', async () => {
    const cache_dir = join(hub.home, 'elsewhere')
    await (await hub.open({ cache_dir })).read('config.json')
    expect(existsSync(join(cache_dir, 'models--owner--tiny-switch', 'refs', 'main'))).toBe(true)
    expect(existsSync(hub.cache)).toBe(false)
  })

  it('says so where the cache cannot be written', async () => {
    writeFileSync(join(hub.home, 'hub'), 'a file where the folder should be')
    const error = await failure((await hub.open()).read('config.json'))
    expect(error.code).toBe('FILE_READ')
    expect(error.message).toMatch(/cannot be written.*cache_dir or HF_HOME|cannot be written.*"cache_dir" or HF_HOME/)
  })
})

describe('two processes', () => {
  let script: string
  beforeAll(async () => {
    script = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'hub_child', 'hub_child.mjs')
    const input = join(import.meta.dirname, 'hub_child.ts')
    await build({
      input,
      platform: 'node',
      external: ['@huggingface/hub'],
      logLevel: 'silent',
      output: { file: script, format: 'esm', codeSplitting: false },
    })
  })

  const run = () => {
    const child = spawn(process.execPath, [script, NAME, FILE], { env: process.env, stdio: ['ignore', 'pipe', 'pipe'] })
    const finished = new Promise<{ code: number | null; output: string; error: string }>((resolve) => {
      let output = ''
      let error = ''
      child.stdout.on('data', (data) => (output += data))
      child.stderr.on('data', (data) => (error += data))
      child.on('close', (code) => resolve({ code, output, error }))
    })
    return { child: child as ChildProcess, finished }
  }
  const expected = { sha256: createHash('sha256').update(WEIGHTS).digest('hex') }

  it('at once download a file once', async () => {
    hub.server.faults = [{ path: /safetensors/, slow_ms: 30 }]
    const results = await Promise.all([run().finished, run().finished])
    for (const { code, output, error } of results) {
      expect(error.replaceAll('downloading\n', '')).toBe('')
      expect(code).toBe(0)
      expect(JSON.parse(output)).toMatchObject(expected)
    }
    expect(hub.server.seen(/model/, 'cdn')).toHaveLength(1)
    expect(results.map(({ error }) => error).sort()).toEqual(['', 'downloading\n'])
  })

  it('one after another resume what a killed one left, and do not wait for its lock', async () => {
    hub.server.faults = [{ path: /safetensors/, stall_after: 400_000 }]
    const { child, finished } = run()
    const partial = join(hub.folder, 'blobs', `${ETAG}.resume.incomplete`)
    await vi.waitUntil(() => existsSync(partial) && statSync(partial).size >= 400_000, {
      timeout: 10_000,
      interval: 10,
    })
    child.kill('SIGKILL')
    await finished
    const locks = join(hub.cache, '.locks', 'models--owner--tiny-switch')
    expect(readdirSync(locks)).toEqual([`${ETAG}.owner`])
    hub.server.reset()
    const started = Date.now()
    const result = await run().finished
    expect(result.code).toBe(0)
    expect(JSON.parse(result.output)).toMatchObject(expected)
    expect(hub.server.seen(/model/, 'cdn').map(({ headers }) => headers.range)).toEqual([
      `bytes=400000-${WEIGHTS.length - 1}`,
    ])
    expect(Date.now() - started).toBeLessThan(5_000)
    expect(readdirSync(locks)).toEqual([])
  })
})

describe('the registry', () => {
  it('lists what is cached and clears it', async () => {
    expect(await list_cached()).toEqual([])
    const repository = await hub.open()
    await repository.prefetch(['config.json', FILE])
    await (await hub.open({ revision: OLD_COMMIT })).read('config.json')
    const [found, ...others] = await list_cached()
    expect(others).toEqual([])
    expect(found).toMatchObject({
      name: NAME,
      path: hub.folder,
      revisions: [
        {
          commit: COMMIT,
          refs: ['main'],
          files: [
            { name: 'config.json', size: CONFIG.length },
            { name: FILE, size: WEIGHTS.length },
          ],
        },
        { commit: OLD_COMMIT, refs: [], files: [{ name: 'config.json' }] },
      ],
    })
    expect(found?.size).toBeGreaterThan(WEIGHTS.length)
    expect(found?.size).toBeLessThan(WEIGHTS.length * 1.01)
    expect(await clear_cached(NAME)).toBe(found?.size)
    expect(await list_cached()).toEqual([])
    expect(await clear_cached(NAME)).toBe(0)
    expect((await failure(clear_cached('../..'))).code).toBe('INVALID_INPUT')
  })
})

describe('a folder', () => {
  const folder = () => {
    const path = join(hub.home, 'model')
    mkdirSync(join(path, 'nested'), { recursive: true })
    writeFileSync(join(path, 'config.json'), CONFIG)
    writeFileSync(join(path, FILE), WEIGHTS)
    writeFileSync(join(path, 'nested', 'part.json'), '{}')
    return path
  }

  it('is read in place, by path or by file: address', async () => {
    const path = folder()
    for (const name of [path, pathToFileURL(path).href, `./${relative(process.cwd(), path)}`]) {
      const repository = await hub.open({}, name)
      expect(await repository.list()).toEqual(['config.json', FILE, 'nested/part.json'])
      expect(decode(await repository.read('config.json'))).toBe(CONFIG)
      expect(await repository.read('missing.json')).toBeNull()
      expect((await repository.source(FILE))?.path).toBe(join(path, FILE))
      expect(sha256(await hub.bytes(repository, FILE))).toBe(WEIGHTS_SHA256)
    }
    expect(decode(await (await hub.open({ subfolder: 'nested' }, path)).read('part.json'))).toBe('{}')
    expect(hub.server.requests).toEqual([])
  })

  it('is read from the home directory', async () => {
    vi.stubEnv('HOME', hub.home)
    folder()
    expect(decode(await (await hub.open({}, '~/model')).read('config.json'))).toBe(CONFIG)
  })

  it('goes before a repository of the same name', async () => {
    const spy = vi.spyOn(process, 'cwd').mockReturnValue(hub.home)
    try {
      mkdirSync(join(hub.home, 'owner'))
      symlinkSync(folder(), join(hub.home, NAME))
      const repository = await hub.open()
      expect((await repository.source(FILE))?.path).toBe(join(hub.home, NAME, FILE))
      expect(hub.server.requests).toEqual([])
    } finally {
      spy.mockRestore()
    }
  })

  it('that is missing, or a file, is an error that says so', async () => {
    const path = folder()
    const missing = await failure(open_repository(join(hub.home, 'nowhere')))
    expect(missing).toMatchObject({ code: 'FILE_NOT_FOUND' })
    expect(missing.message).toContain('no folder')
    expect((await failure(open_repository(join(path, FILE)))).message).toContain('is a file')
    expect((await failure(open_repository('file://other-host/x'))).code).toMatch(/INVALID_INPUT|FILE_NOT_FOUND/)
    const absent = await failure(required_file(await hub.open({}, path), 'tokenizer.json'))
    expect(absent).toMatchObject({ code: 'FILE_NOT_FOUND' })
    expect(absent.message).toContain('It has config.json')
    expect((await failure((await hub.open({}, path)).read('../secret'))).code).toBe('INVALID_INPUT')
    expect((await failure(hub.open({ subfolder: '..' }, path))).code).toBe('INVALID_INPUT')
  })

  it('whose files are cut short while open, or closed, is an error', async () => {
    const path = folder()
    const repository = await hub.open({}, path)
    const source = await repository.source(FILE)
    writeFileSync(join(path, FILE), 'short')
    expect(() => source?.read?.(0, new Uint8Array(100))).toThrow(/ends before byte 100/)
    repository.close()
    expect(() => source?.read?.(0, new Uint8Array(1))).toThrow(/closed/)
    rmSync(path, { recursive: true })
  })
})
