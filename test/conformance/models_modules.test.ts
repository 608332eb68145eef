/** The router and the sparse layer alone, against the reference's own outputs and the values its tests assert. */

import { describe, expect, test } from 'vitest'
import {
  backend,
  fixture,
  read_tensors,
  relative_error,
  SwitchTransformersSparseMLP,
  SwitchTransformersTop1Router,
  Tensor,
} from './library.js'

const TOLERANCE = 1e-5

describe.each(['router', 'router-bias', 'router-bf16'])('%s', (name) => {
  const folder = fixture(`modules/${name}`)
  // The reference keeps logits and probabilities of a bfloat16 router in bfloat16.
  const tolerance = name === 'router-bf16' ? 4e-3 : TOLERANCE

  test('forward and _compute_router_probabilities', async () => {
    await using router = await SwitchTransformersTop1Router.from_pretrained(folder, { backend })
    const expected = await read_tensors(folder, 'expected.safetensors')
    const reference = (key: string) => expected.get(key) as Tensor
    const [index, probs, logits] = await router(reference('hidden_states'))
    expect(index.type).toBe('int64')
    expect(index.tolist()).toEqual(reference('expert_index').tolist())
    expect(probs.dims).toEqual(reference('expert_probs').dims)
    expect(relative_error(probs, reference('expert_probs'))).toBeLessThanOrEqual(tolerance)
    expect(relative_error(logits, reference('router_logits'))).toBeLessThanOrEqual(tolerance)
    const [all_probs, same_logits] = await router._compute_router_probabilities({
      hidden_states: reference('hidden_states'),
    })
    expect(relative_error(all_probs, reference('router_probs'))).toBeLessThanOrEqual(tolerance)
    expect(same_logits.tolist()).toEqual(logits.tolist())
  })
})

describe('sparse layer', () => {
  const folder = fixture('modules/sparse-mlp')

  test('forward', async () => {
    await using mlp = await SwitchTransformersSparseMLP.from_pretrained(folder, { backend })
    const expected = await read_tensors(folder, 'expected.safetensors')
    const output = await mlp.forward({ hidden_states: expected.get('hidden_states') as Tensor })
    expect(output.dims).toEqual([2, 6, 8])
    expect(relative_error(output, expected.get('output') as Tensor)).toBeLessThanOrEqual(TOLERANCE)
  })

  test('nested arrays are taken as well as tensors', async () => {
    await using mlp = await SwitchTransformersSparseMLP.from_pretrained(folder, { backend })
    const expected = await read_tensors(folder, 'expected.safetensors')
    const from_lists = await mlp((expected.get('hidden_states') as Tensor).tolist())
    expect(relative_error(from_lists, expected.get('output') as Tensor)).toBeLessThanOrEqual(TOLERANCE)
  })

  test('a width that is not d_model is refused', async () => {
    await using mlp = await SwitchTransformersSparseMLP.from_pretrained(folder, { backend })
    await expect(mlp([[[1, 2, 3]]])).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    await expect(mlp({ hidden_states: new Tensor('float32', new Float32Array(8), [1, 8]) })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    })
  })
})
