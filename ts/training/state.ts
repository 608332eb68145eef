/** How far a training has come: `trainer_state.json`, as the reference's `TrainerState`, with what exact resuming needs. */

import { CheckpointError } from '../errors.js'
import { is_record } from '../utils/json.js'
import type { CompleteArguments } from './arguments.js'

/** One entry of the log: of a training, an evaluation, or the end. */
export interface LogEntry {
  step: number
  epoch: number
  [name: string]: unknown
}

export interface TrainerState {
  /** Epochs done, the begun one as a part. */
  epoch: number
  /** Updates done. */
  global_step: number
  max_steps: number
  num_train_epochs: number
  num_input_tokens_seen: number
  best_metric: number | null
  best_global_step: number | null
  best_model_checkpoint: string | null
  log_history: LogEntry[]
  /** Evaluations since the last improvement. */
  evaluations_without_improvement: number
  /** Where in the data the next update begins. */
  data: { epoch: number; batch: number }
  /** What must be the same for a resumed training to go on as if nothing had been. */
  course: Course
}

/** Options that decide what the steps do, whatever the schedule. */
export type Course = Record<string, unknown>

const COURSE_OPTIONS = [
  'objective',
  'per_device_train_batch_size',
  'gradient_accumulation_steps',
  'max_tokens_per_batch',
  'train_sampling_strategy',
  'dataloader_drop_last',
  'streaming',
  'shuffle_buffer_size',
  'seed',
  'data_seed',
  'optim',
  'trainable',
  'lora',
] as const satisfies readonly (keyof CompleteArguments)[]

export function course_of(args: CompleteArguments, examples: number | null): Course {
  return { ...Object.fromEntries(COURSE_OPTIONS.map((name) => [name, args[name]])), examples }
}

/** The names in which two courses differ. */
export function course_changes(saved: Course, now: Course): string[] {
  return Object.keys(now).filter((name) => JSON.stringify(saved[name] ?? null) !== JSON.stringify(now[name] ?? null))
}

export function new_state(max_steps: number, num_train_epochs: number, course: Course): TrainerState {
  return {
    epoch: 0,
    global_step: 0,
    max_steps,
    num_train_epochs,
    num_input_tokens_seen: 0,
    best_metric: null,
    best_global_step: null,
    best_model_checkpoint: null,
    log_history: [],
    evaluations_without_improvement: 0,
    data: { epoch: 0, batch: 0 },
    course,
  }
}

/** The state of a `trainer_state.json`. @throws {CheckpointError} `CHECKPOINT_CORRUPT` where it is none. */
export function parse_state(bytes: Uint8Array, place: string): TrainerState {
  const corrupt = (what: string) =>
    new CheckpointError('CHECKPOINT_CORRUPT', `${place}/trainer_state.json ${what}. Resume from an earlier checkpoint.`)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw corrupt('is not JSON')
  }
  if (!is_record(value)) throw corrupt('is no object')
  const state = value as unknown as TrainerState
  const count = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0
  if (!count(state.global_step)) throw corrupt('has no global_step')
  if (!is_record(state.data) || !count(state.data.epoch) || !count(state.data.batch)) {
    throw corrupt('does not say where in the data it was; it was written by another program')
  }
  if (!is_record(state.course) || !Array.isArray(state.log_history)) throw corrupt('is incomplete')
  return state
}
