/** One run of a training, from its first step or a checkpoint to its end. */

import type { StepReport } from '../backend/training_contract.js'
import { AbortError, InputError, OptionError, TrainingError } from '../errors.js'
import type { CompleteArguments } from './arguments.js'
import type { CallbackContext, Callbacks, TrainerControl, UpdateReport } from './callbacks.js'
import { list_checkpoints, restore_checkpoint, rotate_checkpoints, write_checkpoint } from './checkpoint.js'
import type { BatchSource } from './data/batch_source.js'
import type { Batch } from './data/collate.js'
import { prefetch } from './data/turns.js'
import type { TrainingEngine } from './engine.js'
import { add_report, JsonLinesLog, new_window, train_entry, type WindowSums } from './log.js'
import { resume_state } from './resume.js'
import { make_schedule } from './schedule.js'
import { course_of, new_state, type TrainerState } from './state.js'
import type { TrainingStore } from './store/store.js'

export interface RunParts {
  args: CompleteArguments
  engine: TrainingEngine
  store: TrainingStore | null
  batches: BatchSource
  callbacks: Callbacks
  /** Small files of a checkpoint. */
  texts: () => Record<string, string>
  evaluate: (() => Promise<Record<string, number>>) | undefined
  signal: AbortSignal | undefined
  resume_from_checkpoint: string | boolean | undefined
}

export interface TrainOutput {
  global_step: number
  /** Mean over all steps of this run. */
  training_loss: number
  metrics: Record<string, number>
  /** Why it ended. */
  ended_by: 'max_steps' | 'early_stopping' | 'callback'
  best_metric: number | null
  best_model_checkpoint: string | null
}

/** Thrown inside a run when the caller's signal fires between two steps. */
class Stopped extends Error {}

export class TrainingRun {
  readonly #parts: RunParts
  readonly #log: JsonLinesLog
  #state!: TrainerState
  #window: WindowSums = new_window()
  readonly #control: TrainerControl = {
    should_training_stop: false,
    should_save: false,
    should_evaluate: false,
    should_log: false,
  }
  #schedule!: (step: number) => number
  #saved_at = -1
  #evaluated_at = -1
  #ended_by: TrainOutput['ended_by'] = 'max_steps'
  #totals = { loss: 0, updates: 0, tokens: 0, examples: 0 }
  /** When the update under way began, its data included. */
  #began = 0

  constructor(parts: RunParts) {
    this.#parts = parts
    this.#log = new JsonLinesLog(parts.store)
  }

  get #context(): CallbackContext {
    return { args: this.#parts.args, state: this.#state, control: this.#control }
  }

  async run(): Promise<TrainOutput> {
    const { args, batches, callbacks } = this.#parts
    const { max_steps, epochs } = planned_steps(args, batches)
    this.#schedule = make_schedule({
      type: args.lr_scheduler_type,
      learning_rate: args.learning_rate,
      total_steps: max_steps,
      warmup_steps: args.warmup_steps,
      kwargs: args.lr_scheduler_kwargs ?? {},
    })
    const course = course_of(args, batches.examples)
    const resumed = await resume_state(this.#parts, course)
    this.#state = { ...(resumed?.state ?? new_state(max_steps, epochs, course)), max_steps, num_train_epochs: epochs }
    this.#window = resumed?.window ?? new_window()
    if (resumed !== null) this.#saved_at = this.#state.global_step
    await this.#log.cut(resumed?.log_lines ?? 0)
    const started = performance.now()
    try {
      await callbacks.call('on_train_begin', this.#context)
      if (args.eval_on_start && this.#state.global_step === 0) await this.#evaluate()
      await this.#epochs()
    } catch (error) {
      throw error instanceof Stopped || this.#parts.signal?.aborted ? await this.#stopped() : error
    }
    return this.#finish(started)
  }

  async #epochs(): Promise<void> {
    const { args, batches, callbacks } = this.#parts
    while (this.#state.global_step < this.#state.max_steps && !this.#control.should_training_stop) {
      const { epoch, batch: first } = this.#state.data
      if (first === 0) await callbacks.call('on_epoch_begin', this.#context)
      let seen = first
      let micro: Batch[] = []
      this.#began = performance.now()
      for await (const batch of prefetch(batches.batches(epoch, first), args.dataloader_prefetch_factor)) {
        seen += 1
        micro.push(batch)
        if (micro.length < args.gradient_accumulation_steps) continue
        await this.#update(micro, epoch, seen)
        micro = []
        if (this.#ends()) break
      }
      if (this.#ends()) {
        // The last step of the last epoch ends it too.
        if (batches.batches_in(epoch) === seen) await this.#end_epoch(epoch)
        return
      }
      if (seen === 0)
        throw new InputError(
          'An epoch holds no batch: the data set is smaller than one batch, and dataloader_drop_last leaves it out.',
        )
      if (micro.length > 0) await this.#update(micro, epoch, seen)
      await this.#end_epoch(epoch)
    }
  }

  #ends(): boolean {
    return this.#state.global_step >= this.#state.max_steps || this.#control.should_training_stop
  }

  async #end_epoch(epoch: number): Promise<void> {
    const { args, callbacks } = this.#parts
    this.#state.epoch = epoch + 1
    this.#state.data = { epoch: epoch + 1, batch: 0 }
    await callbacks.call('on_epoch_end', this.#context)
    await this.#due({
      log: args.logging_strategy === 'epoch',
      evaluate: args.eval_strategy === 'epoch',
      save: args.save_strategy === 'epoch',
    })
  }

  /** Forward and backward over some batches, and one step of the optimiser. */
  async #update(micro: readonly Batch[], epoch: number, seen: number): Promise<void> {
    const { args, engine, callbacks, batches } = this.#parts
    const step = this.#state.global_step
    const targets = micro.reduce((sum, batch) => sum + batch.targets, 0)
    let loss = 0
    const reports: StepReport[] = []
    for (const [index, batch] of micro.entries()) {
      if (this.#parts.signal?.aborted) throw new Stopped()
      const weight = batch.targets / targets
      const report = await engine.step(batch.tensors, step * args.gradient_accumulation_steps + index, weight)
      if (report.non_finite !== null || !Number.isFinite(report.loss)) {
        throw await this.#diverged(
          `the loss is ${report.loss}, first not finite in ${report.non_finite ?? 'the loss'}`,
          report.non_finite,
        )
      }
      loss += report.loss * weight
      reports.push(report)
    }
    if (this.#parts.signal?.aborted) throw new Stopped()
    const learning_rate = this.#schedule(step)
    const update = await engine.update(learning_rate, args.max_grad_norm)
    if (!update.updated) {
      throw await this.#diverged(
        `the gradient of ${update.non_finite ?? 'a parameter'} is not finite`,
        update.non_finite,
      )
    }
    for (const [index, report] of reports.entries()) add_report(this.#window, report, micro[index]?.examples ?? 0)
    const now = performance.now()
    const seconds = (now - this.#began) / 1000
    this.#began = now
    const state = this.#state
    state.global_step = step + 1
    state.data = { epoch, batch: seen }
    const in_epoch = batches.batches_in(epoch)
    state.epoch = in_epoch === null ? epoch : epoch + seen / in_epoch
    const report: UpdateReport = {
      loss,
      grad_norm: update.grad_norm,
      learning_rate,
      tokens: micro.reduce((sum, batch) => sum + batch.tokens, 0),
      examples: micro.reduce((sum, batch) => sum + batch.examples, 0),
      seconds,
    }
    state.num_input_tokens_seen += report.tokens
    this.#window.updates += 1
    this.#window.grad_norm += update.grad_norm
    this.#window.seconds += seconds
    this.#totals.loss += loss
    this.#totals.updates += 1
    this.#totals.tokens += report.tokens
    this.#totals.examples += report.examples
    await callbacks.call('on_step', report, this.#context)
    const every = (steps: number) => state.global_step % steps === 0
    const last = state.global_step >= state.max_steps
    await this.#due({
      log:
        (args.logging_strategy === 'steps' && (every(args.logging_steps) || last)) ||
        (args.logging_first_step && state.global_step === 1),
      evaluate: args.eval_strategy === 'steps' && every(args.eval_steps as number),
      save: args.save_strategy === 'steps' && (every(args.save_steps) || last),
    })
    // What came between belongs to no step.
    this.#began = performance.now()
  }

  /** Logs, evaluates and saves where it is time to, in the reference's order. */
  async #due(due: { log: boolean; evaluate: boolean; save: boolean }): Promise<void> {
    const control = this.#control
    if (due.log || control.should_log) await this.#write_log()
    let improved = false
    if (due.evaluate || (control.should_evaluate && this.#parts.evaluate !== undefined))
      improved = await this.#evaluate()
    const best = this.#parts.args.save_strategy === 'best' && improved
    if ((due.save || best || control.should_save) && this.#parts.store !== null) await this.#save()
    control.should_log = false
    control.should_evaluate = false
    control.should_save = false
    if (
      control.should_training_stop &&
      this.#ended_by === 'max_steps' &&
      this.#state.global_step < this.#state.max_steps
    ) {
      this.#ended_by = 'callback'
    }
  }

  async #write_log(): Promise<void> {
    const { global_step: step, epoch } = this.#state
    if (this.#window.updates === 0) return
    const entry = train_entry(this.#window, { step, epoch, learning_rate: this.#schedule(step - 1) })
    this.#window = new_window()
    await this.#keep('train', entry)
    await this.#parts.callbacks.call('on_log', entry, this.#context)
  }

  async #keep(type: string, entry: Record<string, unknown> & { step: number; epoch: number }): Promise<void> {
    // Loads by expert are in the log file only: checkpoints would grow with every entry.
    const { layers: _layers, ...small } = entry
    this.#state.log_history.push(small as { step: number; epoch: number })
    await this.#log.add({ type, ...entry })
  }

  /** Whether it was the best so far. */
  async #evaluate(): Promise<boolean> {
    const { args, callbacks, evaluate } = this.#parts
    const state = this.#state
    if (evaluate === undefined || this.#evaluated_at === state.global_step) return false
    this.#evaluated_at = state.global_step
    const metrics = await evaluate()
    await this.#keep('eval', { step: state.global_step, epoch: state.epoch, ...metrics })
    await callbacks.call('on_evaluate', metrics, this.#context)
    const name = args.metric_for_best_model
    if (name === null) return false
    const value = metrics[`eval_${name}`]
    if (value === undefined) {
      throw new OptionError(
        'INVALID_OPTION',
        `metric_for_best_model is '${name}', and evaluations give ${Object.keys(metrics).join(', ')}.`,
        { details: { options: ['metric_for_best_model'] } },
      )
    }
    const gain =
      state.best_metric === null
        ? Number.POSITIVE_INFINITY
        : (value - state.best_metric) * (args.greater_is_better ? 1 : -1)
    if (gain > args.early_stopping_threshold) state.evaluations_without_improvement = 0
    else state.evaluations_without_improvement += 1
    if (gain > 0) {
      state.best_metric = value
      state.best_global_step = state.global_step
    }
    if (
      args.early_stopping_patience !== null &&
      state.evaluations_without_improvement >= args.early_stopping_patience
    ) {
      this.#control.should_training_stop = true
      this.#ended_by = 'early_stopping'
    }
    return gain > 0
  }

  async #save(): Promise<void> {
    const { args, callbacks, engine, store, texts } = this.#parts
    const state = this.#state
    if (store === null || this.#saved_at === state.global_step) return
    if (state.best_global_step === state.global_step) state.best_model_checkpoint = `checkpoint-${state.global_step}`
    const saved = { ...state, window: this.#window, log_lines: this.#log.lines }
    const name = await write_checkpoint(store, { engine, state: saved, adapters: args.lora !== null, texts: texts() })
    this.#saved_at = state.global_step
    await rotate_checkpoints(store, args.save_total_limit, state.best_model_checkpoint)
    await callbacks.call('on_save', name, this.#context)
  }

  async #finish(started: number): Promise<TrainOutput> {
    const { args, callbacks, engine, store } = this.#parts
    const state = this.#state
    if (args.load_best_model_at_end && store !== null && state.best_model_checkpoint !== null) {
      await restore_checkpoint(store, state.best_model_checkpoint, engine, [
        args.lora === null ? 'weights' : 'adapters',
      ])
    }
    const seconds = (performance.now() - started) / 1000
    const { loss, updates, tokens, examples } = this.#totals
    const metrics = {
      train_runtime: Number(seconds.toFixed(3)),
      train_samples_per_second: Number((examples / seconds).toPrecision(4)),
      train_steps_per_second: Number((updates / seconds).toPrecision(4)),
      train_tokens_per_second: Number((tokens / seconds).toPrecision(4)),
      train_loss: updates === 0 ? 0 : loss / updates,
    }
    await this.#keep('end', { step: state.global_step, epoch: state.epoch, ended_by: this.#ended_by, ...metrics })
    await this.#report()
    await callbacks.call('on_train_end', this.#context)
    return {
      global_step: state.global_step,
      training_loss: metrics.train_loss,
      metrics,
      ended_by: this.#ended_by,
      best_metric: state.best_metric,
      best_model_checkpoint: state.best_model_checkpoint,
    }
  }

  /** The signal fired: what has been learned up to the last whole step is kept. */
  async #stopped(): Promise<AbortError> {
    const { engine, signal, store } = this.#parts
    await engine.clear_gradients()
    const { global_step } = this.#state
    let checkpoint: string | null = null
    if (store !== null && this.#parts.args.save_strategy !== 'no' && global_step > 0) {
      await this.#save()
      checkpoint = `checkpoint-${global_step}`
    }
    await this.#report()
    const kept = checkpoint === null ? 'Nothing was saved.' : `${checkpoint} in ${store?.location} resumes it.`
    return new AbortError(`Training was stopped after step ${global_step}. ${kept}`, {
      cause: signal?.reason,
      details: { step: global_step, checkpoint },
    })
  }

  async #diverged(what: string, where: string | null): Promise<TrainingError> {
    const { engine, store } = this.#parts
    await engine.clear_gradients()
    const last = store === null ? undefined : (await list_checkpoints(store)).at(-1)
    const step = this.#state.global_step + 1
    const kept =
      last === undefined
        ? 'There is no checkpoint to go back to.'
        : `The last good checkpoint is ${last} in ${store?.location}.`
    return new TrainingError(
      `Training diverged at step ${step}: ${what}. ${kept} Lower learning_rate, raise warmup_steps, or look at the data of this step.`,
      { details: { step, where, checkpoint: last ?? null } },
    )
  }

  async #report(): Promise<void> {
    const { args, store } = this.#parts
    if (!args.report || store === null) return
    // A chunk of its own: it carries a plotting library.
    const { make_report } = await import('./report/report.js')
    const html = make_report(await this.#log.entries(), {
      title: `Training in ${store.location}`,
      args: { ...args },
    })
    await store.write('report.html', [new TextEncoder().encode(html)])
  }
}

/** Updates in all, and the epochs that they are. */
function planned_steps(args: CompleteArguments, batches: BatchSource): { max_steps: number; epochs: number } {
  const updates = (epoch: number) => {
    const count = batches.batches_in(epoch)
    return count === null ? Number.POSITIVE_INFINITY : Math.ceil(count / args.gradient_accumulation_steps)
  }
  if (updates(0) === 0) {
    throw new InputError(
      'An epoch holds no batch: the data set is smaller than one batch, and dataloader_drop_last leaves it out.',
    )
  }
  if (args.max_steps !== -1) {
    const epochs = Number.isFinite(updates(0)) ? Math.ceil(args.max_steps / updates(0)) : 1
    return { max_steps: args.max_steps, epochs }
  }
  const whole = Math.floor(args.num_train_epochs)
  let steps = 0
  for (let epoch = 0; epoch < whole; epoch++) steps += updates(epoch)
  steps += Math.ceil((args.num_train_epochs - whole) * updates(whole))
  return { max_steps: Math.max(1, steps), epochs: Math.ceil(args.num_train_epochs) }
}
