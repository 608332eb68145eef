import { describe, expect, test } from 'vitest'
import { largest_error, non_finite, position, relative_error } from '../../ts/inspect/compare.js'
import { DROPPED, reference_routes } from '../../ts/inspect/routes.js'

describe('relative_error', () => {
  test('is the norm of the difference over the norm of the expected values', () => {
    expect(relative_error([3, 4.5], [3, 4])).toBeCloseTo(0.5 / 5, 12)
    expect(relative_error([1, 2], [1, 2])).toBe(0)
  })

  test('is absolute where all expected values are zero', () => {
    expect(relative_error([0.25, 0], [0, 0])).toBe(0.25)
    expect(relative_error([0, 0], [0, 0])).toBe(0)
  })

  test('is infinite for values that are not finite where finite ones were expected', () => {
    expect(relative_error([Number.NaN, 1], [1, 1])).toBe(Number.POSITIVE_INFINITY)
    expect(relative_error([Number.POSITIVE_INFINITY, 1], [1, 1])).toBe(Number.POSITIVE_INFINITY)
    expect(relative_error([1, 1], [Number.NEGATIVE_INFINITY, 1])).toBe(Number.POSITIVE_INFINITY)
  })

  test('takes equal infinities and NaN for equal', () => {
    const values = [Number.NaN, Number.NEGATIVE_INFINITY, 2]
    expect(relative_error(values, values)).toBe(0)
  })

  test('is infinite for another number of values', () => {
    expect(relative_error([1], [1, 2])).toBe(Number.POSITIVE_INFINITY)
  })

  test('does not overflow at the largest float32', () => {
    const largest = 3.4028234663852886e38
    expect(relative_error([largest * 0.5], [largest])).toBeCloseTo(0.5, 12)
  })
})

test('largest_error sees a small element beside a huge one, which a norm would not', () => {
  expect(relative_error([1e30, 2], [1e30, 1])).toBeLessThan(1e-9)
  expect(largest_error([1e30, 2], [1e30, 1])).toBe(1)
  expect(largest_error([0.5, Number.NEGATIVE_INFINITY], [0.25, Number.NEGATIVE_INFINITY])).toBe(0.25)
  expect(largest_error([0], [Number.NEGATIVE_INFINITY])).toBe(Number.POSITIVE_INFINITY)
})

test('non_finite counts and places', () => {
  expect(non_finite({ dims: [2, 2], data: [1, 2, 3, 4] })).toBeNull()
  const found = non_finite({ dims: [2, 3], data: [1, 2, 3, 4, Number.POSITIVE_INFINITY, Number.NaN] })
  expect(found).toEqual({ count: 2, first: [1, 1], value: Number.POSITIVE_INFINITY })
  expect(position(23, [2, 3, 4])).toEqual([1, 2, 3])
})

describe('reference_routes', () => {
  const two_experts = (first: number[]) => ({ dims: [1, first.length, 2], data: first.flatMap((logit) => [logit, 0]) })

  test('gives the lowest index of equal logits', () => {
    expect([...reference_routes({ dims: [1, 1, 3], data: [1, 2, 2] }, { expert_capacity: 9 })]).toEqual([1])
  })

  test('drops tokens past the capacity, in position order, and counts each row alone', () => {
    const logits = { dims: [2, 3, 2], data: [1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0] }
    expect([...reference_routes(logits, { expert_capacity: 1 })]).toEqual([0, DROPPED, DROPPED, 0, 1, DROPPED])
    expect([...reference_routes(logits, { expert_capacity: 0 })]).toEqual(Array(6).fill(DROPPED))
  })

  test('decides on probabilities rounded to the dtype of the router', () => {
    // Softmax of (-0.002, 0): 0.4995 and 0.5005, which are one number in bfloat16 and two in the others.
    const close = two_experts([-0.002])
    expect([...reference_routes(close, { expert_capacity: 1, router_dtype: 'float32' })]).toEqual([1])
    expect([...reference_routes(close, { expert_capacity: 1, router_dtype: 'float16' })]).toEqual([1])
    expect([...reference_routes(close, { expert_capacity: 1, router_dtype: 'bfloat16' })]).toEqual([0])
  })

  test('stands huge logits', () => {
    expect([...reference_routes(two_experts([-1e30, 1e30]), { expert_capacity: 9 })]).toEqual([1, 0])
  })
})
