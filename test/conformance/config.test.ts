/** SwitchTransformersConfig: defaults, aliases, derived fields, faults; and that Rust reads a config as TypeScript does. */

import { describe, expect, test } from 'vitest'
import {
  AutoConfig,
  backend_under_test,
  ConfigError,
  failure_of,
  fixture,
  g2p,
  read_json,
  SwitchTransformersConfig,
} from './library.js'

/** What `SwitchTransformersConfig()` of transformers 5.18.0 holds. */
const REFERENCE_DEFAULTS = {
  vocab_size: 32128,
  d_model: 768,
  d_kv: 64,
  d_ff: 2048,
  expert_capacity: 64,
  num_layers: 12,
  num_sparse_encoder_layers: 3,
  num_decoder_layers: 12,
  num_sparse_decoder_layers: 3,
  num_heads: 12,
  num_experts: 8,
  router_bias: false,
  router_jitter_noise: 0.01,
  router_dtype: 'float32',
  router_ignore_padding_tokens: false,
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
  dropout_rate: 0.1,
  layer_norm_epsilon: 1e-6,
  router_z_loss_coef: 0.001,
  router_aux_loss_coef: 0.001,
  initializer_factor: 1,
  dense_act_fn: 'relu',
  is_encoder_decoder: true,
  add_router_probs: false,
  use_cache: true,
  pad_token_id: 0,
  eos_token_id: 1,
  bos_token_id: null,
  tie_word_embeddings: true,
  is_decoder: false,
  add_cross_attention: false,
  encoder_sparse_step: 4,
  decoder_sparse_step: 4,
  model_type: 'switch_transformers',
  transformers_version: '5.18.0',
}

describe('fields', () => {
  test('defaults are those of the reference', () => {
    expect(new SwitchTransformersConfig().to_dict()).toEqual(REFERENCE_DEFAULTS)
  })

  test('aliases read and write the fields they name', () => {
    const config = new SwitchTransformersConfig({ hidden_size: 32, num_attention_heads: 4, num_hidden_layers: 6 })
    expect([config.d_model, config.num_heads, config.num_layers]).toEqual([32, 4, 6])
    config.hidden_size = 48
    expect(config.d_model).toBe(48)
    expect(Object.keys(config.to_dict())).not.toContain('hidden_size')
  })

  test.each([
    [{ num_layers: 6, num_sparse_encoder_layers: 2 }, 3],
    [{ num_layers: 5, num_sparse_encoder_layers: 3 }, 1],
    [{ num_layers: 4, num_sparse_encoder_layers: 0 }, 4],
    [{ num_layers: 2, num_sparse_encoder_layers: 3 }, 0],
    [{ num_layers: 6, num_sparse_encoder_layers: 2, encoder_sparse_step: 5 }, 5],
  ])('the encoder of %j has a sparse step of %i', (values, step) => {
    expect(new SwitchTransformersConfig(values).encoder_sparse_step).toBe(step)
  })

  test('num_decoder_layers: null means as many as the encoder has', () => {
    const config = new SwitchTransformersConfig({
      num_layers: 5,
      num_decoder_layers: null,
      num_sparse_decoder_layers: 1,
    })
    expect(config.num_decoder_layers).toBe(5)
    expect(config.decoder_sparse_step).toBe(5)
  })

  test('unknown fields are kept, and configs survive their own JSON', () => {
    const config = new SwitchTransformersConfig({
      d_model: 64,
      task_specific_params: { summarization: { prefix: 'x' } },
    })
    const again = SwitchTransformersConfig.from_dict(JSON.parse(config.to_json_string()))
    expect(again.to_dict()).toEqual(config.to_dict())
    expect(again.task_specific_params).toEqual({ summarization: { prefix: 'x' } })
    const keys = Object.keys(JSON.parse(config.to_json_string()))
    expect(keys).toEqual([...keys].sort())
  })

  test('writes whole numbers as floats where the reference takes nothing else', () => {
    const text = new SwitchTransformersConfig({
      router_z_loss_coef: 0,
      router_aux_loss_coef: 2.5,
      d_model: 64,
    }).to_json_string()
    expect(text).toContain('"initializer_factor": 1.0,')
    expect(text).toContain('"router_z_loss_coef": 0.0,')
    expect(text).toContain('"router_aux_loss_coef": 2.5,')
    expect(text).toContain('"d_model": 64,')
  })

  test('from_pretrained reads a folder', async () => {
    const config = await AutoConfig.from_pretrained(g2p)
    expect(config).toBeInstanceOf(SwitchTransformersConfig)
    expect(config.num_experts).toBe(8)
  })
})

describe('faults', () => {
  test('are all reported at once', async () => {
    const error = await failure_of(
      () =>
        new SwitchTransformersConfig({
          d_model: -1,
          num_heads: 2.5,
          router_dtype: 'int8' as never,
          dropout_rate: Number.NaN,
          dense_act_fn: 'sine',
          tie_word_embeddings: 'yes' as never,
          eos_token_id: [],
          pad_token_id: 99999,
        }),
    )
    expect(error).toBeInstanceOf(ConfigError)
    expect(error.code).toBe('INVALID_CONFIG')
    const { faults } = error.details as { faults: { field: string }[] }
    expect(faults.map(({ field }) => field).sort()).toEqual([
      'd_model',
      'dense_act_fn',
      'dropout_rate',
      'eos_token_id',
      'num_heads',
      'pad_token_id',
      'router_dtype',
      'tie_word_embeddings',
    ])
    for (const { field } of faults) expect(error.message).toContain(field)
  })

  test.each([
    { vocab_size: 1e12 },
    { d_model: 2 ** 53 },
    { num_layers: 1e9 },
    { num_experts: 2 ** 31 },
    { d_ff: Number.POSITIVE_INFINITY },
    { vocab_size: 2 ** 24, d_model: 2 ** 24 },
    { num_layers: 4096, num_decoder_layers: 4096, num_experts: 2 ** 20 },
    { num_heads: 2 ** 20, d_kv: 2 ** 20, d_model: 2 ** 20 },
    { relative_attention_num_buckets: 1 },
    { relative_attention_max_distance: 16 },
    { model_type: 't5' },
    { to_dict: 1 },
  ])('%j', async (values) => {
    const error = await failure_of(() => new SwitchTransformersConfig(values as never))
    expect(error.code).toBe('INVALID_CONFIG')
  })

  test.each([[null], [[]], ['{}'], [7]])('a config.json of %j', async (values) => {
    expect((await failure_of(() => SwitchTransformersConfig.from_dict(values))).code).toBe('INVALID_CONFIG')
  })
})

describe('Rust', () => {
  test.each(['base', 'asymmetric', 'gated-gelu', 'untied', 'zero-sparse-quirk'])(
    'resolves %s as TypeScript does',
    async (name) => {
      const values = await read_json<Record<string, unknown>>(fixture(`parity/${name}`), 'config.json')
      const chosen = await backend_under_test()
      const { config, faults } = (await chosen.call('config_resolve', { config: values })).reply
      expect(faults).toEqual([])
      const ours = new SwitchTransformersConfig(values).to_dict()
      for (const [field, value] of Object.entries(ours))
        if (field in config) expect([field, config[field]]).toEqual([field, value])
    },
  )

  test('finds faults too', async () => {
    const chosen = await backend_under_test()
    const { faults } = (await chosen.call('config_resolve', { config: { d_model: 0, num_heads: -2 } })).reply
    expect(faults.map(({ field }) => field).sort()).toEqual(['d_model', 'num_heads'])
  })
})
