/** A repository on the loopback hub, and a cache folder of its own for each test. */

import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, vi } from 'vitest'
import { open_repository, type Repository, type RepositoryOptions, set_platform } from '../../ts/hub/index.js'
import { node_platform } from '../../ts/hub/node.js'
import { type HubFile, HubServer } from './hub_server.js'

export const NAME = 'owner/tiny-switch'
export const COMMIT = 'a'.repeat(40)
export const OLD_COMMIT = 'b'.repeat(40)
export const TOKEN = 'hf_secret'
export const WEIGHTS = randomBytes(1_000_000)
export const WEIGHTS_SHA256 = sha256(WEIGHTS)
export const CONFIG = '{"model_type":"switch_transformers"}'

const VARIABLES = [
  'HF_TOKEN',
  'HUGGING_FACE_HUB_TOKEN',
  'HF_TOKEN_PATH',
  'HF_HOME',
  'HF_HUB_CACHE',
  'HUGGINGFACE_HUB_CACHE',
  'XDG_CACHE_HOME',
  'HF_ENDPOINT',
  'HF_HUB_OFFLINE',
  'TRANSFORMERS_OFFLINE',
  'HF_HUB_DOWNLOAD_TIMEOUT',
  'HF_HUB_DISABLE_IMPLICIT_TOKEN',
  'HF_HUB_DISABLE_SYMLINKS',
]

export interface HubFixture {
  readonly server: HubServer
  /** A new, empty folder. HF_HOME is set to it. */
  readonly home: string
  readonly cache: string
  /** The cache's folder of the repository. */
  readonly folder: string
  open(options?: RepositoryOptions, name?: string): Promise<Repository>
  /** Bytes of a file through `source`, read in two parts. */
  bytes(repository: Repository, file: string): Promise<Buffer>
}

/** Sets up a server for the file and a cache for each test. */
export function use_hub(): HubFixture {
  let server: HubServer
  let home: string
  const opened: Repository[] = []

  beforeAll(async () => {
    set_platform(node_platform)
    server = await HubServer.start()
  })
  afterAll(() => server.stop())
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'switch-hub-'))
    for (const name of VARIABLES) vi.stubEnv(name, undefined)
    vi.stubEnv('HF_HOME', home)
    vi.stubEnv('HF_ENDPOINT', server.url)
    server.reset()
    server.repositories[NAME] = {
      refs: { main: COMMIT, 'refs/pr/1': OLD_COMMIT },
      commits: {
        [COMMIT]: {
          'config.json': text(CONFIG),
          'empty.txt': text(''),
          'model.safetensors': { content: WEIGHTS, lfs: true },
          'nested/part.json': text('{"nested":true}'),
        },
        [OLD_COMMIT]: { 'config.json': text('{"old":true}') },
      },
    }
  })
  afterEach(async () => {
    for (const repository of opened.splice(0)) repository.close()
    vi.unstubAllEnvs()
    await rm(home, { recursive: true, force: true })
  })

  return {
    get server() {
      return server
    },
    get home() {
      return home
    },
    get cache() {
      return join(home, 'hub')
    },
    get folder() {
      return join(home, 'hub', 'models--owner--tiny-switch')
    },
    async open(options = {}, name = NAME) {
      const repository = await open_repository(name, { retry_delay_ms: 5, timeout_ms: 400, ...options })
      opened.push(repository)
      return repository
    },
    async bytes(repository, file) {
      const source = await repository.source(file)
      if (!source?.read) throw new Error(`${file} cannot be read`)
      const whole = Buffer.alloc(source.size)
      const middle = source.size >> 1
      source.read(middle, whole.subarray(middle))
      source.read(0, whole.subarray(0, middle))
      return whole
    },
  }
}

export function text(content: string): HubFile {
  return { content: Buffer.from(content) }
}

/** What a promise was rejected with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code?: string; details?: unknown }> {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new Error('It did not fail')
}

/** Comparing buffers element by element takes a test runner seconds. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
