/** Which backend is chosen, and what is said when none works. */

import { afterEach, describe, expect, test, vi } from 'vitest'
import { OPERATIONS } from '../../ts/backend/contract.js'
import type { BackendPlatform } from '../../ts/backend/platform.js'
import type { FromWorker, ToWorker, WorkerPort } from '../../ts/backend/wasm_protocol.js'

const addon = Object.fromEntries(
  OPERATIONS.map((name) => [name, async () => ({ json: JSON.stringify({ devices: ['cpu'] }), tensors: [] })]),
)

function worker(answer: FromWorker): WorkerPort {
  let tell: (message: FromWorker) => void = () => {}
  return {
    post: (message: ToWorker) => {
      if (message.type === 'init') queueMicrotask(() => tell(answer))
    },
    listen: (on_message) => {
      tell = on_message
    },
    terminate: async () => {},
  }
}

const works: FromWorker = { type: 'ready' }
const fails: FromWorker = {
  type: 'failed',
  message: JSON.stringify({ code: 'BACKEND_UNAVAILABLE', message: 'no SIMD here' }),
}
const no_addon = () => {
  throw new Error('no build for this platform')
}

/** A fresh copy of the module: it keeps its backends for as long as the process lives. */
async function with_platform({
  load_addon,
  ...platform
}: Partial<Omit<BackendPlatform, 'load_native'>> & { load_addon?: () => unknown }) {
  vi.resetModules()
  const { set_backend_platform } = await import('../../ts/backend/platform.js')
  const { NativeBackend } = await import('../../ts/backend/native.js')
  set_backend_platform({
    env: () => undefined,
    start_worker: () => worker(works),
    ...(load_addon && { load_native: () => new NativeBackend(load_addon() as never) }),
    ...platform,
  })
  return (await import('../../ts/backend/select.js')).select_backend
}

afterEach(() => vi.resetModules())

describe('auto', () => {
  test('takes the addon where it loads', async () => {
    const select = await with_platform({ load_addon: () => addon })
    expect((await select()).name).toBe('native')
  })

  test('falls back to WASM where it does not, and where there can be none', async () => {
    expect((await (await with_platform({ load_addon: no_addon }))()).name).toBe('wasm')
    expect((await (await with_platform({}))()).name).toBe('wasm')
  })

  test('says why neither works', async () => {
    const select = await with_platform({ load_addon: no_addon, start_worker: () => worker(fails) })
    await expect(select()).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/no build for this platform.*no SIMD here/),
    })
  })
})

test('the environment chooses where the call does not', async () => {
  const platform = {
    load_addon: () => addon,
    env: (name: string) => (name === 'SWITCH_BACKEND' ? 'wasm' : undefined),
  }
  const select = await with_platform(platform)
  expect((await select()).name).toBe('wasm')
  expect((await select({ backend: 'native' })).name).toBe('native')
  const wrong = await with_platform({ env: () => 'gpu' })
  await expect(wrong()).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('SWITCH_BACKEND'),
  })
})

test('one backend of a kind serves all', async () => {
  let started = 0
  const select = await with_platform({
    start_worker: () => {
      started++
      return worker(works)
    },
  })
  const [a, b] = await Promise.all([select({ backend: 'wasm' }), select({ backend: 'wasm' })])
  expect(a).toBe(b)
  expect(await select({ device: 'wasm' })).toBe(a)
  expect(started).toBe(1)
})

test('a failed start is tried again', async () => {
  const answers = [fails, works]
  const select = await with_platform({ start_worker: () => worker(answers.shift() ?? works) })
  await expect(select({ backend: 'wasm' })).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect((await select({ backend: 'wasm' })).name).toBe('wasm')
})

describe('CUDA', () => {
  const with_devices = (reply: object) => () => ({
    ...addon,
    describe: async () => ({ json: JSON.stringify(reply), tensors: [] }),
  })

  test('is there where the addon names a device of its kind', async () => {
    const select = await with_platform({ load_addon: with_devices({ devices: ['cpu', 'cuda:0'], unavailable: {} }) })
    expect((await select({ device: 'cuda' })).name).toBe('native')
  })

  test('says in one line why it is not, and auto goes on without', async () => {
    const reply = { devices: ['cpu'], unavailable: { cuda: 'found no NVIDIA driver (libcuda.so.1)' } }
    const select = await with_platform({ load_addon: with_devices(reply) })
    await expect(select({ device: 'cuda' })).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: "device: 'cuda' is not available: found no NVIDIA driver (libcuda.so.1).",
    })
    expect((await select({ device: 'auto' })).name).toBe('native')
  })
})

describe('refusals', () => {
  test('devices that are not there, and contradictions', async () => {
    const select = await with_platform({ load_addon: () => addon })
    await expect(select({ device: 'cuda' })).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    await expect(select({ device: 'cuda', backend: 'wasm' })).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    await expect(select({ device: 'wasm', backend: 'native' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(select({ device: 'webgpu' as never })).rejects.toMatchObject({ code: 'UNSUPPORTED_OPTION' })
  })

  test('an addon of another version', async () => {
    const { route: _route, ...older } = addon
    const select = await with_platform({ load_addon: () => older })
    await expect(select({ backend: 'native' })).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      details: { missing: ['route'] },
    })
  })

  test('native where there can be none', async () => {
    await expect((await with_platform({}))({ backend: 'native' })).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    })
  })
})
