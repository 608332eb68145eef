/** The WASM backend's worker: what happens when it traps, ends, cannot start, or has nothing to do. */

import { describe, expect, test } from 'vitest'
import { WasmBackend } from '../../ts/backend/wasm.js'
import type { FromWorker, ToWorker, WorkerPort } from '../../ts/backend/wasm_protocol.js'

/** A worker that answers as it is told. */
class FakePort implements WorkerPort {
  readonly posted: ToWorker[] = []
  terminated = false
  referenced = true
  on_message: (message: FromWorker) => void = () => {}
  on_failure: (error: Error) => void = () => {}

  constructor(readonly answer: (message: ToWorker, port: FakePort) => void) {}
  post(message: ToWorker): void {
    this.posted.push(message)
    queueMicrotask(() => this.answer(message, this))
  }
  listen(on_message: (message: FromWorker) => void, on_failure: (error: Error) => void): void {
    this.on_message = on_message
    this.on_failure = on_failure
  }
  async terminate(): Promise<void> {
    this.terminated = true
  }
  ref(): void {
    this.referenced = true
  }
  unref(): void {
    this.referenced = false
  }
}

/** Answers init, `model_init` with a handle, and `config_resolve` by trapping; never answers `model_info`. */
function obedient(message: ToWorker, port: FakePort): void {
  const answer = message.type === 'call' ? answer_to(message) : ({ type: 'ready' } as const)
  if (answer !== null) port.on_message(answer)
}

function answer_to({ id, name }: Extract<ToWorker, { type: 'call' }>): FromWorker | null {
  switch (name) {
    case 'config_resolve':
      return { type: 'trapped', id, message: 'unreachable', failed_allocation: 0 }
    case 'set_threads':
      return { type: 'trapped', id, message: 'unreachable', failed_allocation: 1024 }
    case 'route':
      return { type: 'error', id, message: JSON.stringify({ code: 'INVALID_INPUT', message: 'no' }) }
    case 'model_info':
      return null
    default:
      return { type: 'reply', id, json: name === 'model_init' ? '{"model":3}' : '{}', tensors: [] }
  }
}

const init = { config: {}, seed: 0, architecture: 'SwitchTransformersModel' as const }
const routing = { num_experts: 1, expert_capacity: 1, policy: { type: 'dropless' as const } }
const start = async () => {
  const ports: FakePort[] = []
  const backend = await WasmBackend.start(() => {
    const port = new FakePort(obedient)
    ports.push(port)
    return port
  }, {})
  return { backend, ports }
}
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

describe('a trap', () => {
  test('fails its call, kills every other, and leaves the backend dead', async () => {
    const { backend, ports } = await start()
    await backend.call('model_init', init)
    const waiting = backend.call('model_info', { model: 3 })
    await expect(backend.call('config_resolve', { config: {} })).rejects.toMatchObject({ code: 'INTERNAL' })
    await expect(waiting).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(backend.call('model_info', { model: 3 })).rejects.toMatchObject({ code: 'DISPOSED' })
    expect(backend.failure).not.toBeNull()
    await sleep(0)
    expect(ports[0]?.terminated).toBe(true)
  })

  test('of a full memory says so', async () => {
    const { backend } = await start()
    await expect(backend.call('set_threads', { threads: 1 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      details: { failed_allocation: 1024 },
    })
  })
})

test('an ordinary error leaves everything as it was', async () => {
  const { backend } = await start()
  await expect(backend.call('route', routing)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  expect((await backend.call('model_init', init)).reply).toEqual({ model: 3 })
})

test('a worker that ends by itself takes its calls along', async () => {
  const { backend, ports } = await start()
  const waiting = backend.call('model_info', { model: 3 })
  await sleep(0)
  ports[0]?.on_failure(new Error('it exited with code 1'))
  await expect(waiting).rejects.toMatchObject({ code: 'DISPOSED' })
  expect(backend.failure?.message).toContain('code 1')
})

test('a module that cannot be started is an error, and its worker is ended', async () => {
  const port = new FakePort((_message, self) =>
    self.on_message({ type: 'failed', message: JSON.stringify({ code: 'BACKEND_UNAVAILABLE', message: 'no SIMD' }) }),
  )
  await expect(WasmBackend.start(() => port, {})).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  expect(port.terminated).toBe(true)
})

describe('rest', () => {
  test('a worker is referenced during calls only', async () => {
    const { backend, ports } = await start()
    await backend.call('model_init', init)
    await sleep(0)
    expect(ports[0]?.referenced).toBe(false)
    void backend.call('model_info', { model: 3 }).catch(() => {})
    await sleep(0)
    expect(ports[0]?.referenced).toBe(true)
    await backend.terminate()
  })

  test('a worker in which nothing lives is ended, and the next call starts another', async () => {
    const { backend, ports } = await start()
    await backend.call('model_init', init)
    await sleep(300)
    expect(ports[0]?.terminated).toBe(false)
    await backend.call('release', { handle: 3 })
    await sleep(300)
    expect(ports[0]?.terminated).toBe(true)
    expect(backend.failure).toBeNull()
    expect((await backend.call('model_init', init)).reply).toEqual({ model: 3 })
    expect(ports).toHaveLength(2)
  })
})
