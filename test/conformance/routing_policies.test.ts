/** Routing policies: the reference's, dropless, and the original implementation's. */

import { describe, expect, test } from 'vitest'
import { unwire_all, wire } from '../../ts/backend/wire.js'
import {
  backend,
  backend_under_test,
  failure_of,
  fixture,
  read_json,
  read_tensors,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
} from './library.js'

interface RoutingCase {
  num_experts: number
  expert_capacity: number
  batch_prioritized_routing: boolean
  ignore_padding_tokens: boolean
  logits: number[][][]
  padding_mask: (number | boolean)[][] | null
  expert: number[][]
  slot: number[][]
  weight: number[][]
}

const { cases } = await read_json<{ cases: RoutingCase[] }>(fixture('routing'), 'routing-original.json')

describe('original', () => {
  test.each(cases.map((values, index) => [index, values] as const))('case %i', async (_index, values) => {
    const chosen = await backend_under_test()
    const dims = [values.logits.length, values.logits[0]?.length ?? 0, values.num_experts]
    const tensors = [wire('router_logits', Float32Array.from(values.logits.flat(2)), dims)]
    if (values.padding_mask !== null) {
      tensors.push(wire('padding_mask', Int32Array.from(values.padding_mask.flat().map(Number)), dims.slice(0, 2)))
    }
    const { num_experts, expert_capacity, batch_prioritized_routing, ignore_padding_tokens } = values
    const policy = { type: 'original' as const, expert_capacity, batch_prioritized_routing }
    const answer = await chosen.call('route', { num_experts, expert_capacity, policy, ignore_padding_tokens }, tensors)
    const found = unwire_all(answer.tensors)
    expect(found.get('expert')?.tolist()).toEqual(values.expert)
    expect(found.get('slot')?.tolist()).toEqual(values.slot)
    for (const [index, weight] of values.weight.flat().entries()) {
      expect(Number(found.get('weight')?.data[index])).toBeCloseTo(weight, 5)
    }
  })
})

describe('dropless', () => {
  test('loses no token where the reference drops some', async () => {
    const folder = fixture('parity/capacity-drop')
    const inputs = await read_tensors(folder, 'inputs.safetensors')
    const forward = async (routing: 'reference' | 'dropless') => {
      await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend, routing })
      return model({
        input_ids: inputs.get('input_ids') as Tensor,
        attention_mask: inputs.get('attention_mask') as Tensor,
        decoder_input_ids: inputs.get('decoder_input_ids') as Tensor,
        output_routes: true,
      })
    }
    const dropped = ({ encoder_routes, decoder_routes }: { encoder_routes?: Tensor[]; decoder_routes?: Tensor[] }) =>
      [...(encoder_routes ?? []), ...(decoder_routes ?? [])].flatMap((routes) =>
        Array.from(routes.data as Int32Array).filter((expert) => expert < 0),
      ).length
    expect(dropped(await forward('reference'))).toBeGreaterThan(0)
    expect(dropped(await forward('dropless'))).toBe(0)
  })
})

describe('bad policies', () => {
  test.each([
    'fair',
    { type: 'fair' },
    { type: 'dropless', capacity_factor: 2 },
    { type: 'original', capacity_factor: 0 },
    { type: 'original', capacity_factor: Number.NaN },
    { type: 'original', expert_capacity: 1.5 },
    7,
  ])('%j', async (routing) => {
    const options = { backend, routing: routing as never }
    const error = await failure_of(() =>
      SwitchTransformersForConditionalGeneration.from_pretrained(fixture('parity/base'), options),
    )
    expect(error.code).toBe('INVALID_OPTION')
    expect(error.message).toContain('routing')
  })
})
