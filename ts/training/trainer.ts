/**
 * `Trainer`, after the reference's: options are checked at once, and everything else is a chunk that is loaded when
 * something is asked of it, so that pages that do not train do not pay for it.
 */

import { InputError, OptionError } from '../errors.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'
import { is_record, show } from '../utils/json.js'
import type { CompleteArguments, TrainingArguments } from './arguments.js'
import type { TrainerCallback } from './callbacks.js'
import { check_arguments } from './check_arguments.js'
import type { DatasetInput } from './data/dataset.js'
import type { ComputeMetrics, Predictions } from './evaluate.js'
import type { TrainOutput } from './run.js'
import type { TrainerSession } from './session.js'
import type { TrainingStore } from './store/store.js'

export interface TrainerOptions {
  /** Its weights are changed in place, and are float32 from the first step on. */
  model: SwitchTransformersForConditionalGeneration
  tokenizer: PreTrainedTokenizer
  args?: TrainingArguments
  /** Pairs, or texts for span corruption. Needed to train. */
  train_dataset?: DatasetInput
  eval_dataset?: DatasetInput
  callbacks?: TrainerCallback[]
  /** More metrics of generated texts; with `predict_with_generate`. */
  compute_metrics?: ComputeMetrics
  /** A model of the same vocabulary whose predictions are learned beside the labels. */
  teacher?: SwitchTransformersForConditionalGeneration
  /** Where checkpoints go, instead of `output_dir`. */
  store?: TrainingStore
}

export interface TrainCall {
  /** A checkpoint's name, or true: the newest that is whole, or the beginning where there is none. */
  resume_from_checkpoint?: string | boolean
  /** Stops within a step, leaves a checkpoint, and throws an `AbortError`. */
  signal?: AbortSignal
}

export interface EvaluateCall {
  /** Default: that of the trainer. */
  eval_dataset?: DatasetInput
  /** Put before each metric's name. Default `eval`. */
  metric_key_prefix?: string
  signal?: AbortSignal
}

export interface SaveModelOptions {
  /** What weights are stored as. Default float32, as they are trained. */
  dtype?: 'float32' | 'bfloat16' | 'float16'
}

const OPTIONS = [
  'model',
  'tokenizer',
  'args',
  'train_dataset',
  'eval_dataset',
  'callbacks',
  'compute_metrics',
  'teacher',
  'store',
]

/** Trains and evaluates a model: the same in Node and in browsers. */
export class Trainer {
  /** Every option, with defaults. */
  readonly args: Readonly<CompleteArguments>
  readonly model: SwitchTransformersForConditionalGeneration
  readonly tokenizer: PreTrainedTokenizer
  readonly #options: TrainerOptions
  #session: Promise<TrainerSession> | undefined

  /**
   * @throws {OptionError} `INVALID_OPTION` for options that are wrong or contradict each other, `UNSUPPORTED_OPTION` for
   * unknown ones, all by name. {InputError} for a model or tokenizer that is none.
   */
  constructor(options: TrainerOptions) {
    if (!is_record(options))
      throw new InputError(`Trainer takes an object with a model and a tokenizer, not ${show(options)}.`)
    const unknown = Object.keys(options).filter((name) => !OPTIONS.includes(name))
    if (unknown.length > 0) {
      throw new OptionError(
        'UNSUPPORTED_OPTION',
        `Trainer has no ${unknown.join(', ')}; it takes ${OPTIONS.join(', ')}. What is trained how goes into args.`,
        { details: { options: unknown } },
      )
    }
    const { model, tokenizer, args = {}, teacher } = options
    check_model(model, 'model')
    if (teacher !== undefined) check_model(teacher, 'teacher')
    if (typeof tokenizer !== 'function' || typeof tokenizer.encode !== 'function') {
      throw new InputError('Trainer needs a tokenizer, such as AutoTokenizer.from_pretrained gives.')
    }
    this.args = check_arguments(args, {
      has_eval_dataset: options.eval_dataset !== undefined,
      has_store: options.store !== undefined || typeof args.output_dir === 'string',
      has_teacher: teacher !== undefined,
      has_compute_metrics: options.compute_metrics !== undefined,
    })
    this.model = model
    this.tokenizer = tokenizer
    this.#options = options
  }

  /**
   * Trains to the end, or until a callback, early stopping or `signal` ends it.
   *
   * @throws {TrainingError} `TRAINING_DIVERGED` for a loss or gradient that is not finite; {InputError} for bad rows, empty
   * data and a tokenizer that does not fit; {FileError} where a checkpoint cannot be written: the last one stays;
   * {AbortError} when `signal` fired.
   */
  async train(options: TrainCall = {}): Promise<TrainOutput> {
    return (await this.#opened()).train(options)
  }

  /** Metrics of a data set: losses and, with `predict_with_generate`, of what the model writes. */
  async evaluate(options: EvaluateCall = {}): Promise<Record<string, number>> {
    return (await this.#opened()).evaluate(options)
  }

  /** What the model writes for the sources of a data set, and its metrics. */
  async predict(
    dataset: DatasetInput,
    options: EvaluateCall = {},
  ): Promise<Predictions & { metrics: Record<string, number> }> {
    return (await this.#opened()).predict(dataset, options)
  }

  /**
   * Writes a folder that `from_pretrained` loads: weights, configs and tokenizer. With adapters that are not merged, these
   * alone, in PEFT's layout. A folder in Node; in browsers one of the origin private file system.
   */
  async save_model(output_dir?: string, options: SaveModelOptions = {}): Promise<void> {
    await (await this.#opened()).save_model(output_dir, options)
  }

  /** Adds the adapters to the weights, so that the model stands alone and `save_model` writes all of it. */
  async merge_adapters(): Promise<void> {
    await (await this.#opened()).merge_adapters()
  }

  /** Frees gradients and the optimiser's state. The model stays as it is, adapters that are not merged left out. */
  async dispose(): Promise<void> {
    await (await this.#session)?.dispose()
    this.#session = undefined
  }

  #opened(): Promise<TrainerSession> {
    this.#session ??= import('./session.js').then(({ TrainerSession }) => new TrainerSession(this.#options, this.args))
    return this.#session
  }
}

function check_model(model: unknown, role: string): void {
  const able = model as { can_generate?: () => boolean; handle?: unknown } | null | undefined
  if (typeof able?.can_generate === 'function' && able.handle !== undefined) return
  throw new InputError(
    `The ${role} must be a SwitchTransformersForConditionalGeneration; found ${show(model)}. Load it with from_pretrained.`,
  )
}
