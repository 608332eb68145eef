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

  test('bad options', async () => {
    for (const [options, code] of [
      [{ batch_size: 0 }, 'INVALID_OPTION'],
      [{ new_tokens: 1.5 }, 'INVALID_OPTION'],
      [{ dtype: 'q4' }, 'UNSUPPORTED_OPTION'],
      [{ rows: 1 }, 'UNSUPPORTED_OPTION'],
    ] as const) {
      expect(await failure_of(() => estimate_memory({}, options as never))).toMatchObject({ code })
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
