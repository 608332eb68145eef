/** Text in, text out: `text2text-generation`, `summarization` and `translation`. */

import { InputError } from '../errors.js'
import { type FilledSpans, type FillSpansOptions, fill_spans } from '../generation/fill_spans.js'
import type { GenerateExtras } from '../generation/index.js'
import type { GenerationOptions } from '../generation/options.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/index.js'
import type { Tensor } from '../tensor.js'
import { invalid_option } from '../utils/invalid_option.js'
import { is_record, show } from '../utils/json.js'
import { Pipeline, type PipelineParts } from './pipeline.js'

export interface Text2TextOptions extends GenerationOptions, Omit<GenerateExtras, 'output_routes'> {
  /** Put in front of every text. Default: the task's in the model's `task_specific_params`, else the config's. */
  prefix?: string
  /** Texts that are generated from at a time. Default 16. */
  batch_size?: number
  /** Cut texts to the tokenizer's greatest length. Default true. */
  truncation?: boolean
  /** How the text is decoded; the tokenizer's own setting by default. */
  clean_up_tokenization_spaces?: boolean
  /** Return token ids in place of text. Default false. */
  return_tensors?: boolean
}

/** One result: the text under the task's own name, or its ids. */
export type Text2TextOutput<Key extends string> = { [K in Key]: string } & { generated_token_ids?: Tensor<'int64'> }

/** New tokens where neither the call nor the model says how many, as in the reference's pipelines. */
const DEFAULT_NEW_TOKENS = 256
const DEFAULT_BATCH_SIZE = 16

/** Fields of `task_specific_params` that are no generation options. */
const NOT_OPTIONS: ReadonlySet<string> = new Set(['prefix'])

type Texts = string | readonly string[]
/** For one text its results; for a list one result per text, or a list of results where several were asked for. */
type Results<Key extends string> = Text2TextOutput<Key>[] | Text2TextOutput<Key>[][]

abstract class TextToTextPipeline<Key extends string, Options extends Text2TextOptions> extends Pipeline<
  SwitchTransformersForConditionalGeneration,
  [texts: Texts, options?: Options],
  Results<Key>
> {
  /** The name of the text in a result. */
  abstract readonly key: Key

  override async _call(texts: Texts, options?: Options): Promise<Results<Key>> {
    const list = check_texts(texts)
    const { prefix, batch_size, truncation, clean_up_tokenization_spaces, return_tensors, ...given } =
      this._text_options(options ?? ({} as Options))
    const size = check_batch_size(batch_size)
    const params = this._task_params(options ?? ({} as Options))
    const front = prefix ?? params.prefix ?? this.model.config.prefix ?? ''
    if (typeof front !== 'string') {
      throw invalid_option('prefix', `prefix must be a text, not ${show(front)}.`)
    }
    const defaults = Object.fromEntries(Object.entries(params).filter(([name]) => !NOT_OPTIONS.has(name)))
    const settings: Record<string, unknown> = { ...defaults, ...without_undefined(given) }
    settings.tokenizer ??= this.tokenizer
    if (!this.#says_length(settings)) settings.max_new_tokens = DEFAULT_NEW_TOKENS

    const results: Text2TextOutput<Key>[][] = []
    for (let start = 0; start < list.length; start += size) {
      const batch = list.slice(start, start + size).map((text) => front + text)
      const { input_ids, attention_mask } = this.tokenizer(batch, { padding: true, truncation: truncation ?? true })
      const output = await this.model.generate({ input_ids, attention_mask, ...settings })
      const ids: Tensor<'int64'> = 'sequences' in output ? (output as { sequences: Tensor<'int64'> }).sequences : output
      const decode = {
        skip_special_tokens: true,
        ...(clean_up_tokenization_spaces !== undefined && { clean_up_tokenization_spaces }),
      }
      const each = (ids.dims[0] as number) / batch.length
      const made = return_tensors
        ? Array.from({ length: ids.dims[0] as number }, (_, row) => ({ generated_token_ids: ids.at(row) }))
        : this.tokenizer.batch_decode(ids, decode).map((text) => ({ [this.key]: text }))
      for (let row = 0; row < made.length; row += each) results.push(made.slice(row, row + each) as never)
    }
    if (typeof texts === 'string') return results[0] as Text2TextOutput<Key>[]
    return results.every((one) => one.length === 1) ? results.flat() : results
  }

  /** Options that are this pipeline's or the engine's own, without those of a subclass. */
  protected _text_options(options: Options): Text2TextOptions {
    return options
  }

  /** The entry of `task_specific_params` for what is asked. */
  protected _task_params(_options: Options): Record<string, unknown> {
    return this._params_of(this.task)
  }

  protected _params_of(task: string): Record<string, unknown> {
    const all = this.model.config.task_specific_params
    const params = is_record(all) ? all[task] : undefined
    return is_record(params) ? params : {}
  }

  #says_length(settings: Record<string, unknown>): boolean {
    const own = this.model.generation_config
    return [settings.max_new_tokens, settings.max_length, own.max_new_tokens, own.max_length].some(
      (value) => value !== undefined && value !== null,
    )
  }
}

/** `[{ generated_text }]`. */
export class Text2TextGenerationPipeline extends TextToTextPipeline<'generated_text', Text2TextOptions> {
  readonly key = 'generated_text'

  /** Fills the gaps of a text: see {@link fill_spans}. */
  fill_spans(text: string, options: FillSpansOptions = {}): Promise<FilledSpans[]> {
    return fill_spans(this.model, this.tokenizer, text, options)
  }
}

/** `[{ summary_text }]`. */
export class SummarizationPipeline extends TextToTextPipeline<'summary_text', Text2TextOptions> {
  readonly key = 'summary_text'
}

export interface TranslationOptions extends Text2TextOptions {
  /** Language of the texts, as the model's `task_specific_params` name it: `en` in `translation_en_to_fr`. */
  src_lang?: string
  /** Language to translate into. */
  tgt_lang?: string
}

/** `[{ translation_text }]`. */
export class TranslationPipeline extends TextToTextPipeline<'translation_text', TranslationOptions> {
  readonly key = 'translation_text'

  constructor(parts: PipelineParts<SwitchTransformersForConditionalGeneration>) {
    super(parts)
  }

  protected override _text_options({
    src_lang: _src,
    tgt_lang: _tgt,
    ...options
  }: TranslationOptions): Text2TextOptions {
    return options
  }

  protected override _task_params({ src_lang, tgt_lang }: TranslationOptions): Record<string, unknown> {
    if (src_lang === undefined && tgt_lang === undefined) return this._params_of(this.task)
    const task = `translation_${src_lang}_to_${tgt_lang}`
    const params = this._params_of(task)
    if (Object.keys(params).length > 0) return params
    const known = Object.keys((this.model.config.task_specific_params ?? {}) as object).filter((name) =>
      name.startsWith('translation_'),
    )
    const there =
      known.length > 0
        ? `it has ${known.join(', ')}`
        : 'it has none for translation; put the prefix that it was trained with into `prefix`'
    throw invalid_option(
      src_lang === undefined ? 'src_lang' : 'tgt_lang',
      `The model has no task_specific_params for ${task}: ${there}.`,
    )
  }
}

function check_texts(texts: unknown): string[] {
  const list = typeof texts === 'string' ? [texts] : texts
  if (Array.isArray(list) && list.length > 0 && list.every((text) => typeof text === 'string')) return list
  throw new InputError(`A pipeline takes a text or a list of at least one, not ${show(texts)}.`)
}

function check_batch_size(size: unknown): number {
  if (size === undefined || size === null) return DEFAULT_BATCH_SIZE
  if (Number.isSafeInteger(size) && (size as number) > 0) return size as number
  throw invalid_option('batch_size', `batch_size must be an integer of at least 1, not ${show(size)}.`)
}

function without_undefined(values: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}
