/** Batches by epoch, for each kind of data set. An epoch can be entered at any of its batches. */

import { InputError, throw_if_aborted } from '../../errors.js'
import type { PreTrainedTokenizer } from '../../tokenizer/pre_trained.js'
import type { CompleteArguments } from '../arguments.js'
import { type BatchPlanOptions, plan_epoch } from './batches.js'
import { type Batch, collate } from './collate.js'
import type { Examples } from './dataset.js'
import { ExampleEncoder, encode_all, type Feature, FeatureTable, length_limit } from './features.js'
import {
  corrupt_spans,
  corruption_generator,
  random_spans_noise_mask,
  segment_length,
  sentinel_ids,
} from './span_corruption.js'
import { turns } from './turns.js'

export interface BatchSource {
  /** Examples of an epoch; null where nobody knows. */
  readonly examples: number | null
  /** Examples of which something was cut off. */
  readonly truncated: number
  /** Batches of an epoch; null where nobody knows. */
  batches_in(epoch: number): number | null
  /** An epoch's batches from number `first` on. */
  batches(epoch: number, first: number): AsyncGenerator<Batch, void, undefined>
}

export interface BatchSettings {
  args: CompleteArguments
  tokenizer: PreTrainedTokenizer
  pad_token_id: number
  signal?: AbortSignal | undefined
}

/** The batches that a training reads. Texts are encoded first, in short turns, unless they are streamed. */
export async function open_batches(examples: Examples, settings: BatchSettings): Promise<BatchSource> {
  const { args, signal } = settings
  const encoder = make_encoder(settings)
  if (args.objective === 'span_corruption') {
    const segments = await encode_segments(examples, settings)
    return new TableSource(segments, encoder, settings, corruption(settings))
  }
  if (args.streaming) return new StreamSource(examples, encoder, settings)
  return new TableSource(await encode_all(examples, encoder, { signal }), encoder, settings)
}

export function make_encoder({ args, tokenizer }: BatchSettings): ExampleEncoder {
  return new ExampleEncoder(tokenizer, {
    max_source_length: length_limit(args.max_source_length, tokenizer),
    max_target_length: length_limit(args.max_target_length, tokenizer),
  })
}

function plan_options(args: CompleteArguments): BatchPlanOptions {
  return {
    batch_size: args.per_device_train_batch_size,
    max_tokens: args.max_tokens_per_batch,
    strategy: args.train_sampling_strategy,
    drop_last: args.dataloader_drop_last,
    seed: args.data_seed ?? args.seed,
  }
}

type Transform = (feature: Feature, epoch: number, index: number) => Feature

/** A data set in memory. */
class TableSource implements BatchSource {
  readonly #table: FeatureTable
  readonly #encoder: ExampleEncoder
  readonly #settings: BatchSettings
  readonly #transform: Transform | undefined
  #planned: { epoch: number; batches: Int32Array[] } | undefined

  constructor(table: FeatureTable, encoder: ExampleEncoder, settings: BatchSettings, transform?: Transform) {
    this.#table = table
    this.#encoder = encoder
    this.#settings = settings
    this.#transform = transform
  }

  get examples(): number {
    return this.#table.length
  }

  get truncated(): number {
    return this.#encoder.truncated
  }

  batches_in(epoch: number): number {
    const { args } = this.#settings
    const { per_device_train_batch_size: size } = args
    if (args.max_tokens_per_batch !== null) return this.#plan(epoch).length
    return args.dataloader_drop_last ? Math.floor(this.examples / size) : Math.ceil(this.examples / size)
  }

  async *batches(epoch: number, first: number): AsyncGenerator<Batch, void, undefined> {
    const turn = turns()
    for (const indices of this.#plan(epoch).slice(first)) {
      await turn()
      const features = Array.from(indices, (index) => {
        const feature = this.#table.at(index)
        return this.#transform === undefined ? feature : this.#transform(feature, epoch, index)
      })
      yield collate(features, this.#settings)
    }
  }

  #plan(epoch: number): Int32Array[] {
    if (this.#planned?.epoch !== epoch) {
      this.#planned = { epoch, batches: plan_epoch(this.#table, epoch, plan_options(this.#settings.args)) }
    }
    return this.#planned.batches
  }
}

/** A data set that is read anew in every epoch, shuffled among the examples of a buffer. */
class StreamSource implements BatchSource {
  readonly examples = null
  readonly #examples: Examples
  readonly #encoder: ExampleEncoder
  readonly #settings: BatchSettings

  constructor(examples: Examples, encoder: ExampleEncoder, settings: BatchSettings) {
    this.#examples = examples
    this.#encoder = encoder
    this.#settings = settings
  }

  get truncated(): number {
    return this.#encoder.truncated
  }

  batches_in(): null {
    return null
  }

  async *batches(epoch: number, first: number): AsyncGenerator<Batch, void, undefined> {
    const { args, signal } = this.#settings
    const options = plan_options(args)
    let left = first
    let block = 0
    let table = new FeatureTable()
    const planned = function* (): Generator<Feature[], void, undefined> {
      // The block takes the place of the epoch: every one has an order of its own.
      const batches = plan_epoch(table, epoch * 2 ** 20 + block, options)
      for (const indices of batches) {
        if (left-- > 0) continue
        yield Array.from(indices, (index) => table.at(index))
      }
      block += 1
      table = new FeatureTable()
    }
    const turn = turns()
    let read = 0
    try {
      for await (const example of this.#examples) {
        throw_if_aborted(signal)
        read += 1
        table.push(this.#encoder.encode(example))
        await turn()
        if (table.length < args.shuffle_buffer_size) continue
        for (const features of planned()) yield collate(features, this.#settings)
      }
    } catch (error) {
      if (epoch > 0 && read === 0 && error instanceof InputError) {
        throw new InputError(
          'train_dataset can be read only once, and max_steps needs more of it. Give a function that makes the iterable, or an array.',
          { cause: error },
        )
      }
      throw error
    }
    if (table.length > 0) for (const features of planned()) yield collate(features, this.#settings)
  }
}

/** All texts, one after another, in segments of equal length: as T5 pre-trains. */
async function encode_segments(texts: Examples, settings: BatchSettings): Promise<FeatureTable> {
  const { args, tokenizer, signal } = settings
  const length = segment_length(length_limit(args.max_source_length, tokenizer), args)
  const table = new FeatureTable()
  const empty = new Int32Array()
  let rest: number[] = []
  const turn = turns()
  for await (const { source } of texts) {
    throw_if_aborted(signal)
    for (const id of tokenizer.encode(source, { add_special_tokens: false })) {
      rest.push(id)
      if (rest.length < length) continue
      table.push({ input_ids: Int32Array.from(rest), labels: empty })
      rest = []
    }
    await turn()
  }
  // Of one token nothing can be hidden.
  if (rest.length > 1) table.push({ input_ids: Int32Array.from(rest), labels: empty })
  if (table.length === 0)
    throw new InputError('The texts hold fewer than two tokens: nothing can be learned from them.')
  return table
}

function corruption({ args, tokenizer }: BatchSettings): Transform {
  const sentinels = sentinel_ids(tokenizer)
  const eos_token_id = tokenizer.eos_token_id
  if (eos_token_id === null)
    throw new InputError('Span corruption needs a tokenizer with an end token; this one has none.')
  return ({ input_ids }, epoch, index) => {
    const generator = corruption_generator(args.data_seed ?? args.seed, epoch, index)
    return corrupt_spans(input_ids, random_spans_noise_mask(input_ids.length, args, generator), sentinels, eos_token_id)
  }
}
