/** What users hang into a training: loggers, and whatever decides that it is time to stop. */

import type { CompleteArguments } from './arguments.js'
import type { LogEntry, TrainerState } from './state.js'

/** Set by callbacks, obeyed after the step. */
export interface TrainerControl {
  should_training_stop: boolean
  should_save: boolean
  should_evaluate: boolean
  should_log: boolean
}

export interface CallbackContext {
  readonly args: Readonly<CompleteArguments>
  readonly state: Readonly<TrainerState>
  readonly control: TrainerControl
}

/** What one update did. */
export interface UpdateReport {
  loss: number
  grad_norm: number
  learning_rate: number
  tokens: number
  examples: number
  /** Of the update, data included. */
  seconds: number
}

/** Awaited one after another. One that throws ends the training with its error. */
export interface TrainerCallback {
  on_train_begin?(context: CallbackContext): unknown
  on_epoch_begin?(context: CallbackContext): unknown
  on_step?(report: UpdateReport, context: CallbackContext): unknown
  on_log?(logs: LogEntry, context: CallbackContext): unknown
  on_evaluate?(metrics: Record<string, number>, context: CallbackContext): unknown
  on_save?(checkpoint: string, context: CallbackContext): unknown
  on_epoch_end?(context: CallbackContext): unknown
  on_train_end?(context: CallbackContext): unknown
}

type Event = keyof TrainerCallback

export class Callbacks {
  readonly #callbacks: readonly TrainerCallback[]

  constructor(callbacks: readonly TrainerCallback[]) {
    this.#callbacks = callbacks
  }

  async call<E extends Event>(event: E, ...args: Parameters<NonNullable<TrainerCallback[E]>>): Promise<void> {
    for (const callback of this.#callbacks) {
      const method = callback[event] as ((...args: unknown[]) => unknown) | undefined
      if (typeof method === 'function') await method.apply(callback, args)
    }
  }
}
