/** Metrics are those of sacrebleu and rouge_score; edit distances those of their definition. */

import { describe, expect, test } from 'vitest'
import { compute_text_metrics } from '../../ts/training/metrics/index.js'
import type { MetricName } from '../../ts/training/metrics/names.js'
import fixture from '../fixtures/training/metrics.json'

describe.each(Object.entries(fixture.cases))('%s', (_, { predictions, references, expected }) => {
  test.each(Object.entries(expected))('%s', (name, value) => {
    const found = compute_text_metrics([name as MetricName], predictions, references)
    expect(found[name]).toBeCloseTo(value, 9)
  })
})

test('exact matches count any reference', () => {
  const found = compute_text_metrics(['exact_match'], ['a', 'b', 'c', 'd'], [['a'], ['x', 'b'], ['C'], ['d ']])
  expect(found.exact_match).toBe(0.5)
})

test('error rates take the closest reference, by characters or words', () => {
  const predictions = ['HH AH0 L OW1', 'K AE T']
  const references = [['HH EH1 L OW0', 'HH AH0 L OW'], ['K AE T S']]
  const found = compute_text_metrics(['word_error_rate', 'char_error_rate', 'edit_distance'], predictions, references)
  expect(found.word_error_rate).toBeCloseTo((1 + 1) / (4 + 4), 12)
  expect(found.char_error_rate).toBeCloseTo((1 + 2) / (11 + 8), 12)
  expect(found.edit_distance).toBeCloseTo(1.5, 12)
})

test('characters beyond the basic plane are one each', () => {
  expect(compute_text_metrics(['edit_distance'], ['a😀b'], [['a😁b']]).edit_distance).toBe(1)
})

test('long texts', () => {
  const long = Array.from({ length: 70_000 }, (_, i) => String(i % 900)).join(' ')
  const found = compute_text_metrics(['word_error_rate'], [long], [[long]])
  expect(found.word_error_rate).toBe(0)
})

test('as many predictions as references, with at least one each', () => {
  expect(() => compute_text_metrics(['bleu'], ['a'], [])).toThrow(/1 predictions and 0 lists/)
  expect(() => compute_text_metrics(['bleu'], ['a'], [[]])).toThrow(/one of them empty/)
})
