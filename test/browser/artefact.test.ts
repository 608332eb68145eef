/** Which form of the module runs, and what is said where none can. */

import { afterEach, describe, expect, inject, test, vi } from 'vitest'
import { select_backend } from '../../ts/backend/select.js'
import { choose_artefact } from '../../ts/backend/wasm_artefact.js'
import { AutoTokenizer, env, g2p, SwitchTransformersForConditionalGeneration, terminate_backends } from './host.js'

const artefact = inject('artefact')

afterEach(async () => {
  vi.restoreAllMocks()
  await terminate_backends()
  Object.assign(env.wasm, { artefact, worker_url: '/dist/wasm_worker.js' })
  for (const name of ['binary', 'module', 'threads', 'url', 'worker'] as const) delete env.wasm[name]
})

const url = `/dist/switch_transformers${artefact === 'simd' ? '' : `_${artefact}`}.wasm`

/** What the reference generates from the embedded model. */
async function say_hello(): Promise<string | undefined> {
  const tokenizer = await AutoTokenizer.from_pretrained(g2p)
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(g2p)
  const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
  return tokenizer.batch_decode(ids, { skip_special_tokens: true })[0]
}

async function described() {
  return (await (await select_backend()).call('describe', {})).reply
}

test('the page is isolated', () => expect(crossOriginIsolated).toBe(true))

test('the module says what it is', async () => {
  const { backend, isa, threads } = await described()
  expect(backend).toBe('wasm')
  expect(isa).toBe(artefact === 'relaxed' ? 'relaxed-simd' : 'simd128')
  expect(threads).toBe(artefact === 'simd' ? 1 : Math.min(navigator.hardwareConcurrency, 8))
})

test.runIf(artefact !== 'simd')('as many threads as asked for', async () => {
  env.wasm.threads = 3
  expect((await described()).threads).toBe(3)
  expect(await say_hello()).toBe('HH EH1 L OW0')
})

test('the module as bytes, compiled, and by its address', async () => {
  const binary = await (await fetch(url)).arrayBuffer()
  for (const origin of [
    { url: new URL(url, location.href) },
    { binary },
    { module: await WebAssembly.compile(binary) },
  ]) {
    Object.assign(env.wasm, origin)
    expect(await say_hello()).toBe('HH EH1 L OW0')
    await terminate_backends()
    for (const name of Object.keys(origin)) delete env.wasm[name as keyof typeof origin]
  }
})

test('without a worker, in this thread', async () => {
  Object.assign(env.wasm, { url, worker: false })
  expect(await described()).toMatchObject({ threads: 1 })
  expect(await say_hello()).toBe('HH EH1 L OW0')
  await terminate_backends()
  expect(await say_hello()).toBe('HH EH1 L OW0')
})

test('a worker that is not there', async () => {
  env.wasm.worker_url = '/nothing_here.js'
  await expect(select_backend()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
})

test('a module that is not there', async () => {
  env.wasm.url = '/dist/nothing_here.wasm'
  await expect(select_backend()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
})

test('without SIMD nothing is downloaded', async () => {
  vi.spyOn(WebAssembly, 'validate').mockReturnValue(false)
  const fetched = vi.spyOn(globalThis, 'fetch')
  const started = vi.spyOn(globalThis, 'Worker')
  await expect(SwitchTransformersForConditionalGeneration.from_pretrained(g2p)).rejects.toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    message: expect.stringMatching(/no SIMD: Chrome 91, Firefox 89 or Safari 16\.4/),
  })
  expect(fetched).not.toHaveBeenCalled()
  expect(started).not.toHaveBeenCalled()
})

describe('the choice', () => {
  const is_relaxed = (bytes: BufferSource) => (bytes as Uint8Array).includes(133)
  const validate = WebAssembly.validate

  test('takes the best there is', () => {
    expect(choose_artefact('auto', undefined, 4)).toEqual({ artefact: 'relaxed', threads: 4 })
    expect(choose_artefact('auto', 2, 4)).toEqual({ artefact: 'relaxed', threads: 2 })
    expect(choose_artefact('auto', undefined, 64)).toEqual({ artefact: 'relaxed', threads: 8 })
    expect(choose_artefact('simd', undefined, 4)).toEqual({ artefact: 'simd', threads: 1 })
    vi.spyOn(WebAssembly, 'validate').mockImplementation((bytes) => !is_relaxed(bytes) && validate(bytes))
    expect(choose_artefact('auto', undefined, 4)).toEqual({ artefact: 'threads', threads: 4 })
    expect(choose_artefact('auto', undefined, 1)).toEqual({ artefact: 'simd', threads: 1 })
    expect(() => choose_artefact('relaxed', undefined, 4)).toThrowError(/no relaxed SIMD/)
  })

  test('in a page that is not isolated there is one thread', () => {
    vi.stubGlobal('crossOriginIsolated', false)
    expect(choose_artefact('auto', undefined, 4)).toEqual({ artefact: 'relaxed', threads: 1 })
    vi.spyOn(WebAssembly, 'validate').mockImplementation((bytes) => !is_relaxed(bytes) && validate(bytes))
    expect(choose_artefact('auto', undefined, 4)).toEqual({ artefact: 'simd', threads: 1 })
    expect(() => choose_artefact('threads', undefined, 4)).toThrowError(/Cross-Origin-Opener-Policy/)
    vi.unstubAllGlobals()
  })

  test.each([
    ['avx', undefined],
    ['auto', 0],
    ['auto', 1.5],
  ])('%s, %s threads', (wanted, threads) => {
    expect(() => choose_artefact(wanted, threads, 4)).toThrowError(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})
