/** save_pretrained: what is written loads again, equal, in one file or in shards, and nothing half or stale stays. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  SwitchTransformersConfig,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
} from '../../ts/entry/node.js'

const base = fileURLToPath(new URL('../fixtures/parity/base', import.meta.url))
let root: string
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'save-'))
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

const input = { input_ids: [[5, 6, 7, 8]], decoder_input_ids: [[0, 9]] }
const logits = async (model: SwitchTransformersForConditionalGeneration) =>
  Array.from((await model.forward(input)).logits.data as Float32Array)

describe.each(['native', 'wasm'] as const)('%s', (backend) => {
  const folder = (name: string) => path.join(root, backend, name)
  const load = (from: string, options = {}) =>
    SwitchTransformersForConditionalGeneration.from_pretrained(from, { backend, ...options })

  test('one file', async () => {
    await using model = await load(base)
    await model.save_pretrained(folder('one'))
    expect(readdirSync(folder('one')).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors'])
    await using again = await load(folder('one'))
    expect(await logits(again)).toEqual(await logits(model))
    const config = JSON.parse(readFileSync(path.join(folder('one'), 'config.json'), 'utf8'))
    expect(config).toMatchObject({
      architectures: ['SwitchTransformersForConditionalGeneration'],
      model_type: 'switch_transformers',
    })
    expect(again.config.to_dict()).toMatchObject({ d_model: 32, encoder_sparse_step: 2 })
  })

  test('shards with an index, over what an earlier save left', async () => {
    await using model = await load(base)
    await model.save_pretrained(folder('shards'))
    await model.save_pretrained(folder('shards'), { max_shard_size: '60KB' })
    const files = readdirSync(folder('shards')).sort()
    expect(files).toContain('model.safetensors.index.json')
    expect(files).not.toContain('model.safetensors')
    expect(files.filter((file) => file.endsWith('.safetensors')).length).toBeGreaterThan(2)
    expect(files.some((file) => file.includes('.tmp'))).toBe(false)
    await using again = await load(folder('shards'))
    expect(await logits(again)).toEqual(await logits(model))
    await model.save_pretrained(folder('shards'))
    expect(readdirSync(folder('shards')).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors'])
  })

  test('another dtype, and onto the very files that it was loaded from', async () => {
    await using model = await load(base)
    await model.save_pretrained(folder('half'), { dtype: 'bfloat16' })
    await using half = await load(folder('half'))
    expect(half.dtype).toBe('bfloat16')
    expect(half.weight_bytes).toBeLessThan(model.weight_bytes)
    const [before, after] = [await logits(model), await logits(half)]
    const error = Math.hypot(...before.map((x, i) => x - (after[i] as number))) / Math.hypot(...before)
    expect(error).toBeLessThan(0.05)
    await half.save_pretrained(folder('half'))
    expect(await logits(half)).toEqual(after)
    await using same = await load(folder('half'))
    expect(await logits(same)).toEqual(after)
  })

  test('random weights: the same seed, the same model; state_dict holds what is saved', async () => {
    const config = new SwitchTransformersConfig({
      vocab_size: 40,
      d_model: 16,
      d_kv: 4,
      d_ff: 24,
      num_heads: 2,
      num_layers: 2,
      num_decoder_layers: 2,
      num_sparse_encoder_layers: 1,
      num_sparse_decoder_layers: 1,
      num_experts: 3,
      decoder_start_token_id: 0,
    })
    const make = (seed: number) => SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed })
    await using a = await make(1)
    await using b = await make(1)
    await using c = await make(2)
    const weights = async (model: typeof a) =>
      Object.entries(await model.state_dict()).map(([name, { data }]) => [name, Array.from(data as Float32Array)])
    expect(await weights(a)).toEqual(await weights(b))
    expect(await weights(a)).not.toEqual(await weights(c))
    const parameters = await a.state_dict()
    const count = Object.values(parameters).reduce((sum, { size }: Tensor) => sum + size, 0)
    expect(a.num_parameters()).toBe(count)
    expect(Object.keys(await a.state_dict(['shared.weight']))).toEqual(['shared.weight'])
    await a.save_pretrained(folder('random'))
    await using again = await load(folder('random'))
    expect(await weights(again)).toEqual(await weights(a))
  })

  test('bad folders and options', async () => {
    await using model = await load(base)
    mkdirSync(folder(''), { recursive: true })
    writeFileSync(folder('file'), 'x')
    await expect(model.save_pretrained(folder('file'))).rejects.toMatchObject({ code: 'FILE_READ' })
    await expect(model.save_pretrained('')).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    for (const max_shard_size of [0, -1, '5 elephants', Number.NaN, '']) {
      await expect(model.save_pretrained(folder('bad'), { max_shard_size })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
      })
    }
    await expect(model.save_pretrained(folder('bad'), { dtype: 'int4' as never })).rejects.toMatchObject({
      code: 'UNSUPPORTED_OPTION',
    })
    await expect(model.save_pretrained(folder('bad'), { safe: true } as never)).rejects.toMatchObject({
      code: 'UNSUPPORTED_OPTION',
    })
    await expect(model.save_pretrained(folder('bad'), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    })
    expect(await logits(model)).toHaveLength(240)
  })
})

test('both backends draw the same random weights', async () => {
  const config = {
    vocab_size: 40,
    d_model: 16,
    d_kv: 4,
    d_ff: 24,
    num_heads: 2,
    num_layers: 2,
    num_decoder_layers: 2,
    num_experts: 3,
  }
  const weights = await Promise.all(
    (['native', 'wasm'] as const).map(async (backend) => {
      await using model = await SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed: 5 })
      return Object.entries(await model.state_dict()).map(([name, { data }]) => [
        name,
        Array.from(data as Float32Array),
      ])
    }),
  )
  expect(weights[0]).toEqual(weights[1])
})
