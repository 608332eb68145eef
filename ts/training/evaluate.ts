/** Evaluations: losses over a data set, and what the model writes. */

import { InputError, throw_if_aborted } from '../errors.js'
import { end_token_ids, until_end } from '../generation/token_rows.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'
import { is_record, show } from '../utils/json.js'
import type { CompleteArguments } from './arguments.js'
import { make_encoder } from './data/batch_source.js'
import { collate } from './data/collate.js'
import type { Examples } from './data/dataset.js'
import type { Example } from './data/examples.js'
import { encode_all, type FeatureTable } from './data/features.js'
import type { TrainingEngine } from './engine.js'
import { add_report, drop_rate, mean_losses, new_window } from './log.js'
import { compute_text_metrics } from './metrics/index.js'
import type { MetricName } from './metrics/names.js'

/** What a model wrote, beside what it should have. */
export interface Predictions {
  predictions: string[]
  /** Everything that counts as right, per prediction. */
  references: string[][]
  sources: string[]
  /** Without the start token and what follows the end. */
  prediction_ids: number[][]
}

export type ComputeMetrics = (predictions: Predictions) => Record<string, number> | Promise<Record<string, number>>

export interface Evaluator {
  model: SwitchTransformersForConditionalGeneration
  engine: TrainingEngine
  tokenizer: PreTrainedTokenizer
  args: CompleteArguments
  pad_token_id: number
  compute_metrics: ComputeMetrics | undefined
}

const DEFAULT_METRICS: MetricName[] = ['exact_match', 'char_error_rate']

/** A data set that is evaluated again and again: its ids are kept, and its batches are of examples of like length. */
export class EvaluationSet {
  readonly examples: Example[] = []
  readonly table: FeatureTable
  readonly #order: Int32Array
  readonly #batch_size: number

  private constructor(table: FeatureTable, batch_size: number) {
    this.table = table
    this.#batch_size = batch_size
    this.#order = Int32Array.from({ length: table.length }, (_, index) => index)
    this.#order.sort((a, b) => table.source_length(a) - table.source_length(b))
  }

  static async open(
    examples: Examples,
    settings: {
      args: CompleteArguments
      tokenizer: PreTrainedTokenizer
      pad_token_id: number
      signal?: AbortSignal | undefined
    },
  ): Promise<EvaluationSet> {
    const kept: Example[] = []
    const table = await encode_all(examples, make_encoder(settings), {
      signal: settings.signal,
      keep: (example) => void kept.push(example),
    })
    const set = new EvaluationSet(table, settings.args.per_device_eval_batch_size)
    set.examples.push(...kept)
    return set
  }

  *batches(): Generator<Int32Array, void, undefined> {
    for (let at = 0; at < this.#order.length; at += this.#batch_size) {
      yield this.#order.subarray(at, at + this.#batch_size)
    }
  }

  get longest_target(): number {
    let longest = 0
    for (let index = 0; index < this.table.length; index++) longest = Math.max(longest, this.table.target_length(index))
    return longest
  }
}

/** Metrics named `PREFIX_…`. `on_batch` is told how many examples are done. */
export async function evaluate_set(
  set: EvaluationSet,
  evaluator: Evaluator,
  prefix: string,
  signal: AbortSignal | undefined,
): Promise<{ metrics: Record<string, number>; predictions?: Predictions }> {
  const began = performance.now()
  const sums = new_window()
  for (const indices of set.batches()) {
    throw_if_aborted(signal)
    const batch = collate(
      Array.from(indices, (index) => set.table.at(index)),
      evaluator,
    )
    add_report(sums, await evaluator.engine.evaluate(batch.tensors), batch.examples)
  }
  const losses = mean_losses(sums)
  const dropped = drop_rate(sums.layers)
  const found: Record<string, number> = {
    ...losses,
    perplexity: Math.exp(losses.cross_entropy as number),
    token_accuracy: sums.correct / Math.max(1, sums.targets),
    ...(dropped !== null && { drop_rate: dropped }),
  }
  let predictions: Predictions | undefined
  if (evaluator.args.predict_with_generate) {
    predictions = await predict_set(set, evaluator, signal)
    const names = evaluator.args.metrics ?? (evaluator.compute_metrics === undefined ? DEFAULT_METRICS : [])
    Object.assign(found, compute_text_metrics(names, predictions.predictions, predictions.references))
    if (evaluator.compute_metrics !== undefined) {
      Object.assign(found, checked(await evaluator.compute_metrics(predictions)))
    }
  }
  const seconds = (performance.now() - began) / 1000
  found.runtime = Number(seconds.toFixed(3))
  found.samples_per_second = seconds > 0 ? Number((set.examples.length / seconds).toPrecision(4)) : 0
  const metrics = Object.fromEntries(
    Object.entries(found).map(([name, value]) => [name.startsWith(`${prefix}_`) ? name : `${prefix}_${name}`, value]),
  )
  return predictions === undefined ? { metrics } : { metrics, predictions }
}

function checked(metrics: unknown): Record<string, number> {
  if (is_record(metrics) && Object.values(metrics).every((value) => typeof value === 'number')) {
    return metrics as Record<string, number>
  }
  throw new InputError(`compute_metrics must give an object of numbers; found ${show(metrics)}.`)
}

/** What the model writes for every example, in the data's order. */
export async function predict_set(
  set: EvaluationSet,
  { model, tokenizer, args, pad_token_id }: Omit<Evaluator, 'engine'>,
  signal: AbortSignal | undefined,
): Promise<Predictions> {
  const rows = new Array<number[]>(set.examples.length)
  const { generation_config } = model
  const limited = generation_config.max_new_tokens ?? generation_config.max_length ?? null
  const options = {
    // Otherwise 20 tokens: less than many targets have.
    ...(limited === null && { max_new_tokens: set.longest_target + 1 }),
    ...(args.generation_max_length !== null && { max_length: args.generation_max_length, max_new_tokens: null }),
    ...(args.generation_num_beams !== null && { num_beams: args.generation_num_beams }),
    ...args.generation_config,
    ...(signal !== undefined && { signal }),
  }
  const ends = end_token_ids(model.generation_config.eos_token_id, model.config.eos_token_id)
  for (const indices of set.batches()) {
    throw_if_aborted(signal)
    const sources = Array.from(indices, (index) => [...set.table.at(index).input_ids])
    const length = Math.max(...sources.map((ids) => ids.length))
    const pad = (ids: number[], value: number) => [...ids, ...new Array<number>(length - ids.length).fill(value)]
    const output = await model.generate({
      input_ids: sources.map((ids) => pad(ids, pad_token_id)),
      attention_mask: sources.map((ids) =>
        pad(
          ids.map(() => 1),
          0,
        ),
      ),
      ...options,
      num_return_sequences: 1,
      return_dict_in_generate: false,
    })
    for (const [row, ids] of (output.tolist() as bigint[][]).entries()) {
      rows[indices[row] as number] = until_end(ids.map(Number), ends).slice(1)
    }
  }
  return {
    predictions: rows.map((ids) => tokenizer.decode(ids, { skip_special_tokens: true }).trim()),
    references: set.examples.map(({ references }) => references.map((text) => text.trim())),
    sources: set.examples.map(({ source }) => source),
    prediction_ids: rows,
  }
}
