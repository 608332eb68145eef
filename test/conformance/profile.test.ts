/** `profile: true`: where the time of a call went. */

import { expect, test } from 'vitest'
import { backend, fixture, SwitchTransformersForConditionalGeneration } from './library.js'

const folder = fixture('parity/base')
const input_ids = [
  [5, 6, 7, 8, 9],
  [10, 11, 12, 13, 14],
]

/** Every part, which together are the whole. */
function parts(profile: object): number {
  return Object.entries(profile).reduce(
    (sum, [name, value]) => (name.endsWith('_ms') && name !== 'total_ms' && name !== 'expert_ms' ? sum + value : sum),
    0,
  )
}

test('a forward pass tells of its parts, and of every expert', async () => {
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  const plain = await model.forward({ input_ids, labels: input_ids })
  expect(plain.profile).toBeUndefined()
  const { profile, logits } = await model.forward({ input_ids, labels: input_ids, profile: true })
  expect(logits.data).toEqual(plain.logits.data)
  if (profile === undefined) throw new Error('no profile')
  expect(profile.total_ms).toBeGreaterThan(0)
  expect(parts(profile)).toBeCloseTo(profile.total_ms, 6)
  for (const part of ['attention_ms', 'experts_ms', 'routing_ms', 'head_ms'] as const) {
    expect([part, profile[part] >= 0]).toEqual([part, true])
  }
  // Two sparse layers in each stack; the ten tokens of a stack's pass go to experts, but for those dropped.
  const { num_experts } = model.config
  expect(profile.expert_tokens.map((layer) => layer.length)).toEqual([
    num_experts,
    num_experts,
    num_experts,
    num_experts,
  ])
  for (const [layer, tokens] of profile.expert_tokens.entries()) {
    expect(tokens.reduce((a, b) => a + b)).toBeLessThanOrEqual(10)
    expect(tokens.reduce((a, b) => a + b)).toBeGreaterThan(0)
    for (const [expert, took] of tokens.entries()) {
      if (took === 0) expect(profile.expert_ms[layer]?.[expert]).toBe(0)
    }
  }
})

test('a generation tells of all its steps', async () => {
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  const options = { max_new_tokens: 6, min_new_tokens: 6, return_dict_in_generate: true } as const
  expect((await model.generate({ input_ids, ...options })).profile).toBeUndefined()
  const { profile } = await model.generate({ input_ids, ...options, profile: true })
  if (profile === undefined) throw new Error('no profile')
  expect(parts(profile)).toBeCloseTo(profile.total_ms, 6)
  // Two rows in six steps through each of the decoder's sparse layers.
  expect(profile.expert_tokens.slice(2).map((layer) => layer.reduce((a, b) => a + b))).toEqual([12, 12])
})
