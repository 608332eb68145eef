/** Every parity case: what the reference computes from it, tensor by tensor, and its greedy generations. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  fixture,
  read_json,
  read_tensors,
  relative_error,
  rows_of,
  type Seq2SeqMoEOutput,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
  SwitchTransformersModel,
  type Tensor,
} from './library.js'

const CASES = [
  'all-sparse',
  'asymmetric',
  'base',
  'bf16-weights',
  'buckets',
  'capacity-drop',
  'capacity-zero',
  'fp16-weights',
  'gated-gelu',
  'gelu',
  'inner-dim',
  'long',
  'many-experts',
  'one-expert',
  'pickle',
  'router-bias',
  'sharded',
  'sharded-pickle',
  'switch-c-layout',
  'untied',
  'zero-sparse-quirk',
]

const TOLERANCE = 1e-5
const LOSSES = new Set([
  'loss',
  'cross_entropy',
  'encoder_z_loss',
  'encoder_aux_loss',
  'decoder_z_loss',
  'decoder_aux_loss',
])

interface Generation {
  options: Record<string, unknown>
  sequences: number[][]
  sequences_scores?: number[]
}

/** The output that an expected tensor is compared with: `encoder.router_logits.0` is `encoder_router_logits[0]`. */
function find(output: Seq2SeqMoEOutput, name: string): Tensor | undefined {
  const [, field, index] = /^(.*?)(?:\.(\d+))?$/.exec(name.replace(/^(encoder|decoder)\./, '$1_')) ?? []
  const value = (output as unknown as Record<string, unknown>)[field as string]
  return (index === undefined ? value : (value as Tensor[] | undefined)?.[Number(index)]) as Tensor | undefined
}

describe.each(CASES)('%s', (name) => {
  const folder = fixture(`parity/${name}`)
  let model: SwitchTransformersForConditionalGeneration
  let inputs: Map<string, Tensor>
  let expected: Map<string, Tensor>
  const input = (key: string) => inputs.get(key) as Tensor

  beforeAll(async () => {
    model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
    inputs = await read_tensors(folder, 'inputs.safetensors')
    expected = await read_tensors(folder, 'expected.safetensors')
  })
  afterAll(() => model?.dispose())

  test('every tensor that the reference computes', async () => {
    const output = await model({
      input_ids: input('input_ids'),
      attention_mask: input('attention_mask'),
      labels: input('labels'),
      output_hidden_states: true,
      output_attentions: true,
      output_router_logits: true,
    })
    const wrong: string[] = []
    for (const [key, reference] of expected) {
      const actual = find(output, key)
      const error = actual === undefined ? Number.NaN : relative_error(actual, reference)
      const limit = LOSSES.has(key) ? TOLERANCE * Math.max(1, 1 / Math.abs(Number(reference.data[0]) || 1)) : TOLERANCE
      if (!(error <= limit)) wrong.push(`${key}: ${actual === undefined ? 'missing' : error}`)
    }
    expect(wrong).toEqual([])
    expect(output.logits.dims).toEqual(expected.get('logits')?.dims)
    expect(output.past_key_values).toBeUndefined()
  })

  test('decoder_input_ids in place of labels give the same logits', async () => {
    const output = await model.forward({
      input_ids: input('input_ids'),
      attention_mask: input('attention_mask'),
      decoder_input_ids: input('decoder_input_ids'),
    })
    expect(relative_error(output.logits, expected.get('logits') as Tensor)).toBeLessThanOrEqual(TOLERANCE)
    expect(Object.keys(output).sort()).toEqual(['encoder_last_hidden_state', 'logits'])
  })

  test('every generation', async () => {
    const generations = await read_json<Generation[]>(folder, 'generation.json')
    expect(generations.length).toBe(name === 'long' ? 0 : 10)
    const end = model.generation_config.eos_token_id as number
    for (const { options, sequences, sequences_scores } of generations) {
      const output = await model.generate({
        input_ids: input('input_ids'),
        attention_mask: input('attention_mask'),
        do_sample: false,
        ...options,
        return_dict_in_generate: true,
        output_scores: true,
      })
      expect(output.sequences.type).toBe('int64')
      const rows = rows_of(output.sequences)
      if (sequences_scores === undefined) {
        expect([options, rows]).toEqual([options, sequences])
        continue
      }
      // The reference fills finished rows of beam search with the end token rather than the padding token.
      expect([options, rows.map((row) => up_to(row, end))]).toEqual([options, sequences.map((row) => up_to(row, end))])
      for (const [row, score] of sequences_scores.entries()) {
        expect(Math.abs(Number(output.sequences_scores?.data[row]) - score)).toBeLessThanOrEqual(1e-4)
      }
    }
  })
})

function up_to(row: number[], end: number): number[] {
  const index = row.indexOf(end)
  return index < 0 ? row : row.slice(0, index + 1)
}

describe('the other models, on base', () => {
  const folder = fixture('parity/base')

  test('SwitchTransformersEncoderModel', async () => {
    await using model = await SwitchTransformersEncoderModel.from_pretrained(folder, { backend })
    const inputs = await read_tensors(folder, 'inputs.safetensors')
    const expected = await read_tensors(folder, 'expected.safetensors')
    const output = await model({
      input_ids: inputs.get('input_ids') as Tensor,
      attention_mask: inputs.get('attention_mask') as Tensor,
      output_hidden_states: true,
      output_router_logits: true,
    })
    const reference = expected.get('encoder.last_hidden_state') as Tensor
    expect(relative_error(output.last_hidden_state, reference)).toBeLessThanOrEqual(TOLERANCE)
    expect(output.hidden_states).toHaveLength(5)
    for (const [layer, states] of (output.hidden_states ?? []).entries()) {
      expect(relative_error(states, expected.get(`encoder.hidden_states.${layer}`) as Tensor)).toBeLessThanOrEqual(
        TOLERANCE,
      )
    }
    expect(output.router_logits).toHaveLength(2)
    expect(output.attentions).toBeUndefined()
  })

  test('SwitchTransformersModel', async () => {
    await using model = await SwitchTransformersModel.from_pretrained(folder, { backend })
    const inputs = await read_tensors(folder, 'inputs.safetensors')
    const expected = await read_tensors(folder, 'expected.safetensors')
    const output = await model({
      input_ids: inputs.get('input_ids') as Tensor,
      attention_mask: inputs.get('attention_mask') as Tensor,
      decoder_input_ids: inputs.get('decoder_input_ids') as Tensor,
      output_hidden_states: true,
    })
    const reference = expected.get('decoder.hidden_states.4') as Tensor
    expect(relative_error(output.last_hidden_state, reference)).toBeLessThanOrEqual(TOLERANCE)
    expect(
      relative_error(output.encoder_last_hidden_state as Tensor, expected.get('encoder.last_hidden_state') as Tensor),
    ).toBeLessThanOrEqual(TOLERANCE)
  })
})
