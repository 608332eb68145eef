/** What a `Trainer` does once something is asked of it. */

import { FileError, InputError, OptionError, throw_if_aborted } from '../errors.js'
import { ADAPTER_CONFIG } from '../models/adapter_config.js'
import { mark_changed } from '../models/adapters.js'
import type { CompleteArguments } from './arguments.js'
import { Callbacks } from './callbacks.js'
import { open_batches } from './data/batch_source.js'
import { type DatasetInput, Examples } from './data/dataset.js'
import { check_tokenizer } from './data/features.js'
import { TrainingEngine } from './engine.js'
import { EvaluationSet, type Evaluator, evaluate_set, type Predictions } from './evaluate.js'
import { adapter_files, adapter_text, model_files, model_texts } from './model_files.js'
import { training_options } from './options.js'
import { get_training_platform } from './platform.js'
import { TrainingRun, type TrainOutput } from './run.js'
import type { TrainingStore } from './store/store.js'
import type { EvaluateCall, SaveModelOptions, TrainCall, TrainerOptions } from './trainer.js'

/** Weights of an earlier save, which would be loaded instead of what is written now. */
const STALE =
  /^(?:adapter_config\.json|(?:model|adapter_model)(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index\.json)?|pytorch_model.*\.bin(?:\.index\.json)?)$/

export class TrainerSession {
  readonly #options: TrainerOptions
  readonly #args: CompleteArguments
  #engine: TrainingEngine | undefined
  #store: TrainingStore | null | undefined
  #evaluation: EvaluationSet | undefined
  #merged = false
  #busy = false

  constructor(options: TrainerOptions, args: Readonly<CompleteArguments>) {
    this.#options = options
    this.#args = args
    check_tokenizer(options.tokenizer, options.model.config)
    const { model, teacher } = options
    if (teacher !== undefined) {
      if (teacher.config.vocab_size !== model.config.vocab_size) {
        throw new InputError(
          `The teacher's vocab_size is ${teacher.config.vocab_size}, the model's ${model.config.vocab_size}: they must be the same.`,
          { details: { teacher: teacher.config.vocab_size, model: model.config.vocab_size } },
        )
      }
      if (teacher.handle.backend !== model.handle.backend) {
        throw new InputError('The teacher and the model are on different backends. Load both on one.')
      }
    }
  }

  get #pad_token_id(): number {
    return this.#options.model.config.pad_token_id ?? this.#options.tokenizer.pad_token_id ?? 0
  }

  async train({ resume_from_checkpoint, signal }: TrainCall): Promise<TrainOutput> {
    const { callbacks = [], eval_dataset, train_dataset } = this.#options
    if (train_dataset === undefined) throw new InputError('Training needs a train_dataset.')
    return this.#alone(async () => {
      throw_if_aborted(signal)
      const examples = new Examples('train_dataset', train_dataset, this.#args)
      const settings = {
        args: this.#args,
        tokenizer: this.#options.tokenizer,
        pad_token_id: this.#pad_token_id,
        signal,
      }
      const batches = await open_batches(examples, settings)
      const run = new TrainingRun({
        args: this.#args,
        engine: await this.#started(),
        store: await this.#opened_store(),
        batches,
        callbacks: new Callbacks(callbacks),
        texts: () => this.#texts(),
        evaluate: eval_dataset === undefined ? undefined : () => this.#evaluate(eval_dataset, { signal }),
        signal,
        resume_from_checkpoint,
      })
      return run.run()
    })
  }

  async evaluate(options: EvaluateCall): Promise<Record<string, number>> {
    const dataset = options.eval_dataset ?? this.#options.eval_dataset
    if (dataset === undefined) throw new InputError('Evaluating needs an eval_dataset.')
    return this.#alone(() => this.#evaluate(dataset, options))
  }

  async predict(
    dataset: DatasetInput,
    { metric_key_prefix = 'test', signal }: EvaluateCall,
  ): Promise<Predictions & { metrics: Record<string, number> }> {
    return this.#alone(async () => {
      const set = await this.#evaluation_set(dataset, 'dataset', signal)
      const evaluator = { ...(await this.#evaluator()), args: { ...this.#args, predict_with_generate: true } }
      const { metrics, predictions } = await evaluate_set(set, evaluator, metric_key_prefix, signal)
      return { ...(predictions as Predictions), metrics }
    })
  }

  async save_model(output_dir: string | undefined, { dtype = 'float32' }: SaveModelOptions): Promise<void> {
    const store = output_dir === undefined ? await this.#opened_store() : await this.#store_at(output_dir)
    if (store === null) {
      throw new OptionError('INVALID_OPTION', 'save_model needs a folder, by its argument or by output_dir.', {
        details: { options: ['output_dir'] },
      })
    }
    const engine = await this.#started()
    const adapters = this.#args.lora !== null && !this.#merged
    const written = new Set<string>()
    const { model, tokenizer } = this.#options
    const files = adapters
      ? adapter_files(model, tokenizer, engine, this.#args)
      : model_files(model, tokenizer, engine, dtype)
    for await (const { name, chunks } of files) {
      await store.write(name, chunks)
      written.add(name)
    }
    for (const { name } of await store.files()) {
      if (STALE.test(name) && !written.has(name)) await store.remove(name)
    }
  }

  async merge_adapters(): Promise<void> {
    if (this.#args.lora === null) {
      throw new OptionError('INVALID_OPTION', 'There are no adapters to merge: args has no lora.', {
        details: { options: ['lora'] },
      })
    }
    if (this.#merged) return
    await this.#alone(async () => (await this.#started()).merge_adapters())
    this.#merged = true
    mark_changed(this.#options.model)
  }

  async dispose(): Promise<void> {
    await this.#engine?.dispose()
    this.#engine = undefined
  }

  async #evaluate(
    dataset: DatasetInput,
    { metric_key_prefix = 'eval', signal }: EvaluateCall,
  ): Promise<Record<string, number>> {
    const own = dataset === this.#options.eval_dataset
    const set = (own ? this.#evaluation : undefined) ?? (await this.#evaluation_set(dataset, 'eval_dataset', signal))
    if (own) this.#evaluation = set
    return (await evaluate_set(set, await this.#evaluator(), metric_key_prefix, signal)).metrics
  }

  async #evaluation_set(dataset: DatasetInput, name: string, signal: AbortSignal | undefined): Promise<EvaluationSet> {
    // What is evaluated is pairs, whatever was trained.
    const args = { ...this.#args, objective: 'seq2seq' as const }
    const settings = { args, tokenizer: this.#options.tokenizer, pad_token_id: this.#pad_token_id, signal }
    return EvaluationSet.open(new Examples(name, dataset, args), settings)
  }

  async #evaluator(): Promise<Evaluator> {
    const { model, tokenizer, compute_metrics } = this.#options
    return {
      model,
      tokenizer,
      compute_metrics,
      engine: await this.#started(),
      args: this.#args,
      pad_token_id: this.#pad_token_id,
    }
  }

  async #started(): Promise<TrainingEngine> {
    const { model, teacher } = this.#options
    this.#engine ??= await TrainingEngine.start(model, training_options(this.#args, teacher?.handle.id))
    return this.#engine
  }

  async #opened_store(): Promise<TrainingStore | null> {
    if (this.#store === undefined) {
      const { output_dir } = this.#args
      this.#store = this.#options.store ?? (output_dir === null ? null : await this.#store_at(output_dir))
    }
    return this.#store
  }

  async #store_at(folder: string): Promise<TrainingStore> {
    if (folder.trim() === '') throw new FileError('FILE_READ', 'A folder to write into is named by its path.')
    return (await get_training_platform()).open_store(folder)
  }

  /** Beside the weights of a checkpoint: what makes it a model's folder. */
  #texts(): Record<string, string> {
    const { model, tokenizer } = this.#options
    const engine = this.#engine
    return {
      ...model_texts(model, tokenizer, model.config.quantization_config ? 'float32' : model.dtype),
      ...(this.#args.lora !== null && engine && { [ADAPTER_CONFIG]: adapter_text(model, engine, this.#args) }),
      'training_args.json': `${JSON.stringify(this.#args, (_, value) => (typeof value === 'function' ? 'a function' : value), 2)}\n`,
    }
  }

  /** One thing at a time: two trainings of one model would undo each other's steps. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new InputError('This trainer is at work already. Await what it does first.')
    this.#busy = true
    try {
      return await work()
    } finally {
      this.#busy = false
    }
  }
}
