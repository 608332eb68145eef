/** Going on from a checkpoint. */

import { OptionError } from '../errors.js'
import type { CompleteArguments } from './arguments.js'
import { find_checkpoint, restore_checkpoint } from './checkpoint.js'
import type { TrainingEngine } from './engine.js'
import type { WindowSums } from './log.js'
import { type Course, course_changes, type TrainerState } from './state.js'
import type { TrainingStore } from './store/store.js'

export interface Resumed {
  state: TrainerState
  window: WindowSums | undefined
  log_lines: number
}

/**
 * The state of the checkpoint that a training is to go on from, with its weights and optimiser's state in the engine; null
 * where it is to begin.
 */
export async function resume_state(
  parts: {
    args: CompleteArguments
    engine: TrainingEngine
    store: TrainingStore | null
    resume_from_checkpoint: string | boolean | undefined
  },
  course: Course,
): Promise<Resumed | null> {
  const { args, engine, resume_from_checkpoint: which, store } = parts
  await store?.tidy()
  if (which === undefined || which === false) return null
  if (store === null) {
    throw new OptionError('INVALID_OPTION', 'resume_from_checkpoint needs output_dir, where the checkpoints are.', {
      details: { options: ['resume_from_checkpoint', 'output_dir'] },
    })
  }
  const found = await find_checkpoint(store, which)
  if (found === null) return null
  const { window, log_lines, ...state } = found.state as TrainerState & { window?: WindowSums; log_lines?: number }
  check_course(state.course, course, found.name)
  await restore_checkpoint(store, found.name, engine, [args.lora === null ? 'weights' : 'adapters', 'optimizer'])
  return { state, window, log_lines: log_lines ?? 0 }
}

/** @throws {OptionError} where a resumed training would not go on as it was begun. */
function check_course(saved: Course, now: Course, checkpoint: string): void {
  const changed = course_changes(saved, now)
  if (changed.length === 0) return
  const list = changed.map(
    (name) => `${name} (${JSON.stringify(saved[name] ?? null)}, now ${JSON.stringify(now[name] ?? null)})`,
  )
  throw new OptionError(
    'INVALID_OPTION',
    `${checkpoint} was written with other options: ${list.join(', ')}. Resume with the same, or begin anew from its weights.`,
    { details: { options: changed } },
  )
}
