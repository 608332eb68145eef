/** From log entries to what the report draws. */

import type { LogEntry } from '../state.js'

/** Lines over steps; null where a line has no value. */
export interface Figure {
  title: string
  unit: string
  steps: number[]
  lines: { name: string; values: (number | null)[] }[]
  /** Logarithmic, where losses and norms span several orders of magnitude. */
  logarithmic: boolean
}

/** The share of tokens that each expert of a layer got, per entry. */
export interface LoadMap {
  title: string
  steps: number[]
  /** [entry][expert], of the tokens that were routed. */
  shares: number[][]
  /** Tokens that found no room, per entry, of those that were routed. */
  dropped: number[]
}

type Named = readonly [key: string, name: string]

const PLANS: readonly { title: string; unit: string; lines: readonly Named[] }[] = [
  {
    title: 'Loss',
    unit: '',
    lines: [
      ['loss', 'training'],
      ['cross_entropy', 'training, cross entropy'],
      ['eval_loss', 'evaluation'],
      ['distillation_loss', 'distillation'],
    ],
  },
  {
    title: 'Token accuracy',
    unit: '',
    lines: [
      ['token_accuracy', 'training'],
      ['eval_token_accuracy', 'evaluation'],
    ],
  },
  { title: 'Learning rate', unit: '', lines: [['learning_rate', 'learning rate']] },
  { title: 'Gradient norm', unit: '', lines: [['grad_norm', 'before clipping']] },
  {
    title: 'Load-balancing loss',
    unit: '',
    lines: [
      ['encoder_aux_loss', 'encoder'],
      ['decoder_aux_loss', 'decoder'],
    ],
  },
  {
    title: 'Router z-loss',
    unit: '',
    lines: [
      ['encoder_z_loss', 'encoder'],
      ['decoder_z_loss', 'decoder'],
    ],
  },
  {
    title: 'Dropped tokens',
    unit: '',
    lines: [
      ['drop_rate', 'training'],
      ['eval_drop_rate', 'evaluation'],
    ],
  },
  { title: 'Throughput', unit: 'tokens/s', lines: [['tokens_per_second', 'tokens per second']] },
]

/** Of evaluations, but no measure of quality. */
const NO_METRIC = /^eval_(?:runtime|samples_per_second|loss|cross_entropy|token_accuracy|drop_rate|.*_(?:z|aux)_loss)$/

export function figures_of(log: readonly LogEntry[]): Figure[] {
  const figures = PLANS.map(({ title, unit, lines }) => figure(title, unit, log, lines))
  const metrics = new Set(
    log.flatMap((entry) => Object.keys(entry).filter((key) => key.startsWith('eval_') && !NO_METRIC.test(key))),
  )
  // One figure per scale: rates from 0 to 1, scores up to 100, and what has neither bound.
  const groups = new Map<string, Named[]>()
  for (const key of metrics) {
    const largest = Math.max(...log.map((entry) => number(entry[key]) ?? 0))
    const title = largest <= 1.5 ? 'Evaluation' : /bleu|chrf/.test(key) ? 'Evaluation, scores to 100' : name_of(key)
    groups.set(title, [...(groups.get(title) ?? []), [key, name_of(key)]])
  }
  const of_metrics = [...groups].map(([title, lines]) => figure(title, '', log, lines))
  // Right after the loss and the accuracy.
  figures.splice(2, 0, ...of_metrics)
  figures.push(dropped_by_layer(log))
  return figures.filter(({ lines }) => lines.length > 0)
}

function figure(title: string, unit: string, log: readonly LogEntry[], plan: readonly Named[]): Figure {
  const used = plan.filter(([key]) => log.some((entry) => number(entry[key]) !== null))
  const steps = [
    ...new Set(log.filter((entry) => used.some(([key]) => number(entry[key]) !== null)).map(({ step }) => step)),
  ].sort((a, b) => a - b)
  const lines = used.map(([key, name]) => {
    const by_step = new Map(
      log.flatMap((entry) => (number(entry[key]) === null ? [] : [[entry.step, number(entry[key])] as const])),
    )
    return { name, values: steps.map((step) => by_step.get(step) ?? null) }
  })
  const values = lines.flatMap((line) => line.values.filter((value) => value !== null))
  const positive = values.length > 0 && values.every((value) => value > 0)
  const spans = positive && Math.max(...values) / Math.min(...values) > 200
  return { title, unit, steps, lines, logarithmic: spans && /loss|norm/i.test(title) }
}

/** The part of tokens that found no room, a line for each sparse layer. */
function dropped_by_layer(log: readonly LogEntry[]): Figure {
  const maps = load_maps_of(log)
  const steps = [...new Set(maps.flatMap((map) => map.steps))].sort((a, b) => a - b)
  const lines = maps.map(({ title, steps: own, dropped }) => {
    const by_step = new Map(own.map((step, i) => [step, dropped[i] ?? null]))
    return { name: title, values: steps.map((step) => by_step.get(step) ?? null) }
  })
  return { title: 'Dropped tokens, by layer', unit: '', steps, lines, logarithmic: false }
}

function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function name_of(key: string): string {
  return key.replace(/^eval_/, '').replaceAll('_', ' ')
}

interface Load {
  stack: string
  layer: number
  load: number[]
  dropped: number
}

export function load_maps_of(log: readonly LogEntry[]): LoadMap[] {
  const maps = new Map<string, LoadMap>()
  for (const entry of log) {
    if (!Array.isArray(entry.layers)) continue
    for (const { stack, layer, load, dropped } of entry.layers as Load[]) {
      const title = `${stack}, layer ${layer}`
      const map = maps.get(title) ?? { title, steps: [], shares: [], dropped: [] }
      const all = load.reduce((sum, tokens) => sum + tokens, 0) || 1
      map.steps.push(entry.step)
      map.shares.push(load.map((tokens) => Number((tokens / all).toFixed(4))))
      map.dropped.push(Number((dropped / all).toFixed(4)))
      maps.set(title, map)
    }
  }
  return [...maps.values()]
}

/** Standard deviation by mean of an entry's shares: 0 where all experts get as much. */
export function load_variation(shares: readonly number[]): number {
  const mean = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length)
  if (mean === 0) return 0
  const variance = shares.reduce((sum, share) => sum + (share - mean) ** 2, 0) / shares.length
  return Math.sqrt(variance) / mean
}
