import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, it } from 'vitest'
import type * as generated from '../../bindings/node/index.js'
import {
  type NativeBinding,
  OPERATIONS,
  type Source,
  type WireError,
  type WireTensor,
} from '../../ts/backend/contract.js'

// Compile-time: what the addon's build generated is what the contract says.
const typed = (addon: typeof generated): NativeBinding => addon

const folder = fileURLToPath(new URL('../../bindings/node/', import.meta.url))
const path = join(folder, readdirSync(folder).find((name) => name.endsWith('.node')) ?? 'not built')
const addon = typed(createRequire(import.meta.url)(path))

const scratch = mkdtempSync(join(tmpdir(), 'switch-addon-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

async function error_of(promise: Promise<unknown>): Promise<WireError> {
  const error = await promise.then(
    () => null,
    (thrown: Error) => thrown,
  )
  expect(error).toBeInstanceOf(Error)
  return JSON.parse(error!.message) as WireError
}

const tensor = (change: Partial<WireTensor>): WireTensor => ({
  name: 'router_logits',
  dtype: 'float32',
  dims: [1, 1, 2],
  data: new Uint8Array(8),
  ...change,
})

const route = JSON.stringify({ num_experts: 2, expert_capacity: 1, policy: { type: 'reference' } })

describe('the native addon', () => {
  it('exports the operations of the contract and nothing else', () => {
    expect(Object.keys(addon).sort()).toEqual([...OPERATIONS].sort())
  })

  it('answers with JSON and tensors', async () => {
    const reply = await addon.route(route, [tensor({ data: new Uint8Array(new Float32Array([1, 2]).buffer) })], [])
    expect(JSON.parse(reply.json)).toBeTypeOf('object')
    const expert = reply.tensors.find(({ name }) => name === 'expert')
    expect(expert).toMatchObject({ dtype: 'int32', dims: [1, 1] })
    expect([...expert!.data]).toEqual([1, 0, 0, 0])
  })

  it.each([
    ['too few bytes', tensor({ data: new Uint8Array(7) })],
    ['too many bytes', tensor({ data: new Uint8Array(9) })],
    ['a fraction in dims', tensor({ dims: [1, 0.5, 4] })],
    ['a negative number in dims', tensor({ dims: [-1, -1, 2] })],
    ['dims whose product overflows', tensor({ dims: [2 ** 40, 2 ** 40, 2] })],
    ['NaN in dims', tensor({ dims: [Number.NaN] })],
    ['an unknown dtype', tensor({ dtype: 'float8' as 'float32' })],
  ])('refuses a tensor with %s', async (_, bad) => {
    expect(await error_of(addon.route(route, [bad], []))).toMatchObject({ code: 'INVALID_INPUT' })
  })

  it.each([
    ['that is missing', join(scratch, 'missing'), 'FILE_NOT_FOUND'],
    ['that is a folder', scratch, 'FILE_READ'],
    ['that is a device', '/dev/zero', 'FILE_READ'],
    ['without a path', undefined, 'INVALID_INPUT'],
  ])('refuses a file %s', async (_, file, code) => {
    const source: Source = { name: 'model.safetensors', size: 1, ...(file !== undefined && { path: file }) }
    expect(await error_of(addon.checkpoint_open('{}', [], [source]))).toMatchObject({ code })
  })

  it('refuses an empty file, which cannot be mapped, as a checkpoint', async () => {
    const file = join(scratch, 'empty.safetensors')
    writeFileSync(file, '')
    const failure = await error_of(
      addon.checkpoint_open('{}', [], [{ name: 'empty.safetensors', size: 0, path: file }]),
    )
    expect(failure).toMatchObject({ code: 'CHECKPOINT_CORRUPT' })
  })

  it.each(['{"threads":0}', '{"threads":1.5}', '{"threads":1e9}', '{}', 'no JSON'])(
    'refuses to set %s',
    async (request) => {
      expect(await error_of(addon.set_threads(request, [], []))).toMatchObject({ code: 'INVALID_OPTION' })
    },
  )

  it('answers in the order of the calls', async () => {
    const order: number[] = []
    await Promise.all(
      [0, 1, 2, 3].map(async (i) => {
        await addon.describe('{}', [], [])
        order.push(i)
      }),
    )
    expect(order).toEqual([0, 1, 2, 3])
  })

  it('serves several environments of one process, one of which ends early', async () => {
    const script = `
      const { parentPort } = require('node:worker_threads')
      const addon = require(${JSON.stringify(path)})
      addon.describe('{}', [], []).then(({ json }) => parentPort.postMessage(JSON.parse(json).backend))
      for (let i = 0; i < 50; i++) void addon.describe('{}', [], [])`
    for (let round = 0; round < 4; round++) {
      const workers = [0, 1].map(() => new Worker(script, { eval: true }))
      const answers = workers.map(
        (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)),
      )
      expect(await Promise.all(answers)).toEqual(['native', 'native'])
      await Promise.all(workers.map((worker) => worker.terminate()))
    }
    expect(JSON.parse((await addon.describe('{}', [], [])).json)).toMatchObject({ backend: 'native' })
  })
})

describe('a process with the addon', () => {
  const load = `const addon = require(${JSON.stringify(path)});`

  it('waits for its calls, then ends by itself', () => {
    const script = `${load} addon.describe('{}', [], []).then(({ json }) => console.log(JSON.parse(json).backend))`
    expect(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 10_000 })).toBe('native\n')
  })

  it('ends when it is told to, calls or not', () => {
    const script = `${load} for (let i = 0; i < 100; i++) addon.describe('{}', [], []); process.exit(3)`
    expect(spawnSync(process.execPath, ['-e', script], { timeout: 10_000 }).status).toBe(3)
  })

  it.each([
    ['3', '{"threads":3}'],
    ['zero', '{"code":"INVALID_OPTION"}'],
  ])('takes the number of threads from SWITCH_NUM_THREADS=%s', (value, expected) => {
    const script = `${load}
      addon.describe('{}', [], []).then(
        ({ json }) => console.log(JSON.stringify({ threads: JSON.parse(json).threads })),
        ({ message }) => console.log(JSON.stringify({ code: JSON.parse(message).code })))`
    const env = { ...process.env, SWITCH_NUM_THREADS: value }
    expect(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env }).trim()).toBe(expected)
  })
})
