/** What a model needs, before it is loaded. */

import { describe, expect, test } from 'vitest'
import {
  AutoConfig,
  backend,
  estimate_memory,
  failure_of,
  fixture,
  g2p,
  SwitchTransformersForConditionalGeneration,
} from './library.js'

describe('estimate_memory', () => {
  test.each(['base', 'gated-gelu', 'router-bias', 'untied', 'all-sparse', 'asymmetric'])(
    'the weights of %s are exact',
    async (name) => {
      await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(fixture(`parity/${name}`), {
        backend,
      })
      expect(estimate_memory(model.config, { dtype: 'float32' }).weights).toBe(model.num_parameters() * 4)
      expect(estimate_memory(model.config, { dtype: 'bf16' }).weights).toBe(model.num_parameters() * 2)
    },
  )

  test('auto takes the dtype that the config names, and more of anything takes more', async () => {
    const config = await AutoConfig.from_pretrained(g2p)
    const small = estimate_memory(config)
    expect(small.weights).toBe(estimate_memory(config, { dtype: 'float16' }).weights)
    const large = estimate_memory(config, { batch_size: 4, num_beams: 4, new_tokens: 100, input_tokens: 1000 })
    expect(large.cache).toBeGreaterThan(small.cache)
    expect(large.activations).toBeGreaterThan(small.activations)
    expect(large.total).toBe(large.weights + large.cache + large.activations)
  })

  test('of a model that is named, or a config', async () => {
    const options = { dtype: 'float32', batch_size: 2 } as const
    const config = await AutoConfig.from_pretrained(g2p)
    const expected = estimate_memory(config, options)
    expect(await estimate_memory({ model: g2p, ...options })).toEqual(expected)
    expect(await estimate_memory({ model: config, ...options })).toEqual(expected)
    expect(await estimate_memory({ model: fixture('parity/base') })).toEqual(
      estimate_memory(await AutoConfig.from_pretrained(fixture('parity/base'))),
    )
  })

  test('asks for the config alone', async () => {
    const asked: string[] = []
    const config = { d_model: 16, d_kv: 4, d_ff: 32, num_heads: 2, vocab_size: 32 }
    const sha = 'a'.repeat(40)
    const hub = async (input: string | URL | Request) => {
      const { pathname } = new URL(input instanceof Request ? input.url : input)
      const file = { type: 'file', path: 'config.json', size: JSON.stringify(config).length, oid: 'b'.repeat(40) }
      asked.push(pathname)
      if (/\/revision\//.test(pathname)) return Response.json({ sha, siblings: [] })
      if (/\/tree\//.test(pathname)) return Response.json([file])
      return new Response(null, { status: 404 })
    }
    const model = 'owner/name-that-is-nowhere'
    const options = { model, fetch: hub as typeof fetch, endpoint: 'https://hub.invalid', max_retries: 0 }
    await failure_of(() => estimate_memory(options))
    expect(asked.length).toBeGreaterThan(0)
    expect(asked.filter((path) => /resolve/.test(path)).every((path) => path.endsWith('/config.json'))).toBe(true)
    asked.length = 0
    expect(await failure_of(() => estimate_memory({ ...options, batch_size: 0 }))).toMatchObject({
      code: 'INVALID_OPTION',
    })
    expect(asked).toEqual([])
  })

  test('bad options', async () => {
    for (const [options, code] of [
      [{ batch_size: 0 }, 'INVALID_OPTION'],
      [{ new_tokens: 1.5 }, 'INVALID_OPTION'],
      [{ dtype: 'q4' }, 'UNSUPPORTED_OPTION'],
      [{ rows: 1 }, 'UNSUPPORTED_OPTION'],
    ] as const) {
      expect(await failure_of(() => estimate_memory({}, options as never))).toMatchObject({ code })
      expect(await failure_of(() => estimate_memory({ model: g2p, ...options } as never))).toMatchObject({ code })
    }
  })
})

test.runIf(backend === 'wasm')(
  'a model that WASM cannot address is refused before its weights are asked for',
  async () => {
    // The large published size: 26 billion parameters. The folder holds another model, whose weights are not looked at.
    const config = {
      d_model: 1024,
      d_ff: 2816,
      num_layers: 24,
      num_decoder_layers: 24,
      num_heads: 16,
      num_experts: 128,
      num_sparse_encoder_layers: 12,
      num_sparse_decoder_layers: 12,
    }
    const error = await failure_of(() =>
      SwitchTransformersForConditionalGeneration.from_pretrained(fixture('parity/base'), { backend, config }),
    )
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', details: { limit: 2 ** 32 } })
    expect(error.message).toMatch(/GiB/)
  },
)
