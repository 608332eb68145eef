/** A training's bar, with its speed and the time left, and its log as lines. */

import type { LogEntry, TrainerCallback } from '../../entry/node.js'
import type { Progress, Terminal } from '../terminal.js'

/** Steps over which speed is averaged. */
const RECENT = 50

export function training_progress(progress: Progress, terminal: Terminal): TrainerCallback {
  const recent: { seconds: number; tokens: number; examples: number }[] = []
  return {
    on_step(report, { state }) {
      recent.push(report)
      if (recent.length > RECENT) recent.shift()
      const sum = (of: 'seconds' | 'tokens' | 'examples') => recent.reduce((total, step) => total + step[of], 0)
      const seconds = sum('seconds')
      const left = ((state.max_steps - state.global_step) * seconds) / recent.length
      progress.update(
        state.global_step,
        state.max_steps,
        `step ${state.global_step} of ${state.max_steps} · loss ${short(report.loss)} · ${short(sum('tokens') / seconds)} tokens/s · ${short(sum('examples') / seconds)} examples/s · ${show_time(left)} left`,
      )
    },
    on_log(logs, { state }) {
      progress.stop()
      terminal.note(
        `step ${logs.step} of ${state.max_steps}: ${show_entry(logs, ['loss', 'token_accuracy', 'learning_rate', 'grad_norm', 'drop_rate', 'tokens_per_second'])}\n`,
      )
    },
    on_evaluate(metrics, { state }) {
      progress.stop()
      const names = Object.keys(metrics).filter((name) => !/runtime|per_second|_(?:z|aux)_loss/.test(name))
      terminal.note(`evaluation at step ${state.global_step}: ${show_entry({ ...metrics }, names)}\n`)
    },
    on_train_end() {
      progress.stop()
    },
  }
}

function show_entry(entry: LogEntry | Record<string, unknown>, names: readonly string[]): string {
  return names.flatMap((name) => (typeof entry[name] === 'number' ? [`${name} ${short(entry[name])}`] : [])).join(', ')
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)))
}

export function show_time(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'unknown time'
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${Number((seconds / 3600).toPrecision(2))} h`
}
