/** What is logged of steps: means over a stretch of them, and one JSON object per line in `log.jsonl`. */

import type { StepReport } from '../backend/training_contract.js'
import type { LogEntry } from './state.js'
import type { TrainingStore } from './store/store.js'

export const LOG_FILE = 'log.jsonl'

/** Losses of a report, in the order in which they are shown. */
const LOSSES = [
  'loss',
  'cross_entropy',
  'logits_z_loss',
  'distillation_loss',
  'encoder_z_loss',
  'encoder_aux_loss',
  'decoder_z_loss',
  'decoder_aux_loss',
] as const satisfies readonly (keyof StepReport)[]

/** Sums since the last entry. Plain, so that a checkpoint can hold them. */
export interface WindowSums {
  updates: number
  targets: number
  correct: number
  tokens: number
  examples: number
  seconds: number
  losses: Record<string, number>
  grad_norm: number
  layers: { stack: string; layer: number; load: number[]; dropped: number }[]
}

export function new_window(): WindowSums {
  return {
    updates: 0,
    targets: 0,
    correct: 0,
    tokens: 0,
    examples: 0,
    seconds: 0,
    losses: {},
    grad_norm: 0,
    layers: [],
  }
}

/** Adds what a batch's report says. Losses are means over its targets. */
export function add_report(sums: WindowSums, report: StepReport, examples: number): void {
  sums.targets += report.targets
  sums.correct += report.correct
  sums.tokens += report.tokens
  sums.examples += examples
  for (const name of LOSSES) sums.losses[name] = (sums.losses[name] ?? 0) + report[name] * report.targets
  for (const [index, { stack, layer, load, dropped }] of report.layers.entries()) {
    const sum = sums.layers[index]
    if (sum === undefined) {
      sums.layers.push({ stack, layer, load: [...load], dropped })
      continue
    }
    for (const [expert, tokens] of load.entries()) sum.load[expert] = (sum.load[expert] ?? 0) + tokens
    sum.dropped += dropped
  }
}

/** Means of the window's losses, without those that are not part of this training. */
export function mean_losses(sums: WindowSums): Record<string, number> {
  return Object.fromEntries(
    LOSSES.flatMap((name) => {
      const mean = (sums.losses[name] ?? 0) / Math.max(1, sums.targets)
      return mean === 0 && name !== 'loss' && name !== 'cross_entropy' ? [] : [[name, mean]]
    }),
  )
}

/** The part of tokens that found their expert full, over all sparse layers. */
export function drop_rate(layers: WindowSums['layers']): number | null {
  const dropped = layers.reduce((sum, layer) => sum + layer.dropped, 0)
  const all = layers.reduce((sum, layer) => sum + layer.load.reduce((a, b) => a + b, 0), 0)
  return all === 0 ? null : dropped / all
}

export function train_entry(sums: WindowSums, place: { step: number; epoch: number; learning_rate: number }): LogEntry {
  const { step, epoch, learning_rate } = place
  const dropped = drop_rate(sums.layers)
  return {
    step,
    epoch,
    ...mean_losses(sums),
    learning_rate,
    grad_norm: sums.grad_norm / Math.max(1, sums.updates),
    token_accuracy: sums.correct / Math.max(1, sums.targets),
    ...(dropped !== null && { drop_rate: dropped }),
    tokens: sums.tokens,
    tokens_per_second: rate(sums.tokens, sums.seconds),
    examples_per_second: rate(sums.examples, sums.seconds),
    layers: sums.layers,
  }
}

function rate(count: number, seconds: number): number {
  return seconds > 0 ? Number((count / seconds).toPrecision(4)) : 0
}

/** The log file. It knows how many lines it has, so that a resumed training can cut off what came after its checkpoint. */
export class JsonLinesLog {
  lines = 0
  readonly #store: TrainingStore | null

  constructor(store: TrainingStore | null) {
    this.#store = store
  }

  async add(entry: LogEntry & { type: string }): Promise<void> {
    this.lines += 1
    await this.#store?.append(LOG_FILE, `${JSON.stringify(entry)}\n`)
  }

  /** Keeps the first `lines` lines. */
  async cut(lines: number): Promise<void> {
    this.lines = lines
    if (this.#store === null) return
    const text = new TextDecoder().decode((await this.#store.read(LOG_FILE)) ?? new Uint8Array())
    // A line that was being written when the process ended has no end.
    const kept = text.split('\n').slice(0, -1).slice(0, lines)
    this.lines = kept.length
    const bytes = new TextEncoder().encode(kept.map((line) => `${line}\n`).join(''))
    await this.#store.write(LOG_FILE, [bytes])
  }

  async entries(): Promise<LogEntry[]> {
    const bytes = await this.#store?.read(LOG_FILE)
    return parse_log(new TextDecoder().decode(bytes ?? new Uint8Array()))
  }
}

/** The entries of a `log.jsonl`; lines that are none are left out. */
export function parse_log(text: string): LogEntry[] {
  return text.split('\n').flatMap((line) => {
    try {
      const entry = JSON.parse(line) as LogEntry
      return typeof entry === 'object' && entry !== null && Number.isFinite(entry.step) ? [entry] : []
    } catch {
      return []
    }
  })
}
