/** Learning rates are those of the reference's schedulers, at every step and beyond the last. */

import { expect, test } from 'vitest'
import { make_schedule, type SchedulerType } from '../../ts/training/schedule.js'
import fixture from '../fixtures/training/schedules.json'

test.each(
  fixture.cases.map(
    (each) => [`${each.type} ${JSON.stringify(each.kwargs)}, warmup ${each.warmup_steps}`, each] as const,
  ),
)('%s', (_, { type, learning_rate, warmup_steps, total_steps, kwargs, expected }) => {
  const schedule = make_schedule({
    type: type as SchedulerType,
    learning_rate,
    warmup_steps,
    total_steps,
    kwargs: kwargs as Record<string, number>,
  })
  for (const [step, rate] of expected.entries()) expect(schedule(step)).toBeCloseTo(rate, 12)
})

test('warmup as a part of all steps', () => {
  const options = { type: 'linear' as const, learning_rate: 1, total_steps: 40, kwargs: {} }
  const part = make_schedule({ ...options, warmup_steps: 0.25 })
  const steps = make_schedule({ ...options, warmup_steps: 10 })
  for (let step = 0; step < 40; step++) expect(part(step)).toBe(steps(step))
})

test('a function of the step, refused where it gives no factor', () => {
  const options = { learning_rate: 2, total_steps: 10, warmup_steps: 0, kwargs: {} }
  expect(make_schedule({ ...options, type: (step, { total_steps }) => step / total_steps })(5)).toBe(1)
  expect(() => make_schedule({ ...options, type: () => Number.NaN })(3)).toThrow(/gave NaN for step 3/)
})

test('arguments that a schedule does not have are refused by name', () => {
  const options = { learning_rate: 1e-3, total_steps: 10, warmup_steps: 0 }
  expect(() => make_schedule({ ...options, type: 'linear', kwargs: { power: 2 } })).toThrow(/'linear' has no power/)
  expect(() => make_schedule({ ...options, type: 'polynomial', kwargs: { lr_end: 1 } })).toThrow(
    /lr_end \(1\) must be below/,
  )
})
