import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { SwitchTransformersConfig } from '../../ts/configuration.js'
import { summarize_parameters } from '../../ts/inspect/parameters.js'
import { SIZES, size_config } from '../../ts/inspect/presets.js'
import { count_parameters, type ParameterDimensions } from '../../ts/models/parameter_count.js'

const PARITY = path.join(import.meta.dirname, '../fixtures/parity')

/** Names and shapes from the headers of all safetensors weights in a folder. */
function header_tensors(folder: string): { name: string; shape: number[] }[] {
  const files = readdirSync(folder).filter((name) => /^model.*\.safetensors$/.test(name))
  return files.flatMap((file) => {
    const bytes = readFileSync(path.join(folder, file))
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0))))
    delete header.__metadata__
    return Object.entries(header as Record<string, { shape: number[] }>).map(([name, { shape }]) => ({ name, shape }))
  })
}

function config_of(folder: string): SwitchTransformersConfig {
  return new SwitchTransformersConfig(JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')))
}

describe('published sizes', () => {
  // 619 M as published; the larger ones differ by their experts alone: 12 sparse layers of 2 · 768 · 3072 + 768 each.
  test.each([
    ['base-8', 619_339_008],
    ['base-16', 1_072_397_568],
    ['base-128', 7_415_217_408],
    ['base-256', 14_664_154_368],
    ['large-128', 26_309_291_008],
  ])('%s has %i parameters', (size, parameters) => {
    const config = new SwitchTransformersConfig(size_config(size))
    expect(count_parameters(config as unknown as ParameterDimensions)).toBe(parameters)
  })

  test.each([...SIZES])('%s is a valid config with every other layer sparse', (size) => {
    const config = new SwitchTransformersConfig(size_config(size))
    expect(config.num_experts).toBe(Number(size.split('-')[1]))
    expect(config.encoder_sparse_step).toBe(2)
    expect(config.num_sparse_encoder_layers).toBe(config.num_layers / 2)
  })

  test('another name is refused with the names there are', () => {
    expect(() => size_config('base-9')).toThrowError(/base-8, base-16.*not "base-9"/)
    expect(() => size_config('toString')).toThrowError(/size must be/)
  })
})

describe('counting', () => {
  const cases = readdirSync(PARITY, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'switch-c-layout')
    .map((entry) => entry.name)
    .filter((name) => header_tensors(path.join(PARITY, name)).length > 0)

  test.each(cases)('%s: a config and the stored tensors agree', (name) => {
    const folder = path.join(PARITY, name)
    const config = config_of(folder)
    const summary = summarize_parameters(header_tensors(folder), config.tie_word_embeddings)
    expect(summary.parameters).toBe(count_parameters(config as unknown as ParameterDimensions))
    expect(summary.encoder.layers).toBe(config.num_layers)
    expect(summary.decoder.layers).toBe(config.num_decoder_layers)
    expect(summary.experts).toBe(config.num_experts)
  })

  test('one expert of each sparse layer is active', () => {
    const folder = path.join(PARITY, 'base')
    const summary = summarize_parameters(header_tensors(folder), true)
    // 4 sparse layers, 4 experts of 2 · 32 · 48 parameters each.
    expect(summary.parameters_experts).toBe(4 * 4 * 3072)
    expect(summary.parameters - summary.parameters_active).toBe(4 * 3 * 3072)
    expect(summary.encoder.sparse_layers).toEqual([1, 3])
  })

  test("the head of the published switch-c's layout is its own", () => {
    const folder = path.join(PARITY, 'switch-c-layout')
    const tensors = header_tensors(folder)
    const all = tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
    expect(summarize_parameters(tensors).parameters).toBe(all)
  })

  test('copies of tied embeddings are counted once, untied ones each', () => {
    const embedding = (name: string) => ({ name, shape: [10, 4] })
    const stored = [
      'shared.weight',
      'encoder.embed_tokens.weight',
      'decoder.embed_tokens.weight',
      'lm_head.weight',
    ].map(embedding)
    expect(summarize_parameters(stored).parameters).toBe(40)
    expect(summarize_parameters(stored, false).parameters).toBe(160)
  })
})
