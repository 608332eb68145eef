/**
 * Learning-rate schedules, as the reference's `get_scheduler` (transformers 5.18.0, `optimization.py`): a factor of the
 * learning rate by the number of updates that have been made, 0 before the first.
 */

import { OptionError } from '../errors.js'
import { show } from '../utils/json.js'
import type { ScheduleFunction } from './arguments.js'

export const SCHEDULER_TYPES = [
  'linear',
  'cosine',
  'cosine_with_restarts',
  'polynomial',
  'constant',
  'constant_with_warmup',
  'inverse_sqrt',
] as const

export type SchedulerType = (typeof SCHEDULER_TYPES)[number]

export interface ScheduleOptions {
  type: SchedulerType | ScheduleFunction
  learning_rate: number
  total_steps: number
  /** Updates, or below 1 a part of `total_steps`. */
  warmup_steps: number
  kwargs: Readonly<Record<string, number>>
}

/** What each schedule takes in `lr_scheduler_kwargs`. */
const KWARGS: Readonly<Record<SchedulerType, readonly string[]>> = {
  linear: [],
  cosine: ['num_cycles'],
  cosine_with_restarts: ['num_cycles'],
  polynomial: ['lr_end', 'power'],
  constant: [],
  constant_with_warmup: [],
  inverse_sqrt: ['timescale'],
}

/**
 * The learning rate before the update number `step` (from 0).
 *
 * @throws {OptionError} `INVALID_OPTION` for `kwargs` that the schedule does not have.
 */
export function make_schedule(options: ScheduleOptions): (step: number) => number {
  const { type, learning_rate, total_steps } = options
  const warmup_steps = options.warmup_steps < 1 ? Math.ceil(options.warmup_steps * total_steps) : options.warmup_steps
  if (typeof type === 'function') {
    return (step) => {
      const factor = type(step, { total_steps, warmup_steps })
      if (Number.isFinite(factor) && factor >= 0) return learning_rate * factor
      throw new OptionError(
        'INVALID_OPTION',
        `lr_scheduler_type gave ${show(factor)} for step ${step}; it must give a number of at least 0.`,
        { details: { options: ['lr_scheduler_type'], step } },
      )
    }
  }
  const unknown = Object.keys(options.kwargs).filter((name) => !KWARGS[type].includes(name))
  if (unknown.length > 0) {
    throw new OptionError(
      'INVALID_OPTION',
      `lr_scheduler_kwargs of '${type}' has no ${unknown.join(', ')}; it takes ${KWARGS[type].join(', ') || 'nothing'}.`,
      { details: { options: ['lr_scheduler_kwargs'] } },
    )
  }
  const factor = decay(type, { ...options, warmup_steps })
  return (step) => learning_rate * factor(step)
}

function decay(type: SchedulerType, options: ScheduleOptions): (step: number) => number {
  const { total_steps, warmup_steps, kwargs, learning_rate } = options
  const warm_up = (after: (step: number) => number) => (step: number) =>
    step < warmup_steps ? step / Math.max(1, warmup_steps) : after(step)
  const progress = (step: number) => (step - warmup_steps) / Math.max(1, total_steps - warmup_steps)
  switch (type) {
    case 'constant':
      return () => 1
    case 'constant_with_warmup':
      return warm_up(() => 1)
    case 'linear':
      return warm_up((step) => Math.max(0, (total_steps - step) / Math.max(1, total_steps - warmup_steps)))
    case 'cosine': {
      const cycles = kwargs.num_cycles ?? 0.5
      return warm_up((step) => Math.max(0, 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress(step)))))
    }
    case 'cosine_with_restarts': {
      const cycles = kwargs.num_cycles ?? 1
      return warm_up((step) => {
        const done = progress(step)
        return done >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * done) % 1))))
      })
    }
    case 'polynomial': {
      const end = kwargs.lr_end ?? 1e-7
      const power = kwargs.power ?? 1
      if (end >= learning_rate) {
        throw new OptionError(
          'INVALID_OPTION',
          `lr_scheduler_kwargs.lr_end (${end}) must be below learning_rate (${learning_rate}).`,
          { details: { options: ['lr_scheduler_kwargs', 'learning_rate'] } },
        )
      }
      return warm_up((step) => {
        if (step > total_steps) return end / learning_rate
        const left = 1 - (step - warmup_steps) / (total_steps - warmup_steps || 1)
        return ((learning_rate - end) * left ** power + end) / learning_rate
      })
    }
    case 'inverse_sqrt': {
      const timescale = kwargs.timescale ?? (warmup_steps || 10_000)
      const shift = timescale - warmup_steps
      return warm_up((step) => 1 / Math.sqrt((step + shift) / timescale))
    }
  }
}
