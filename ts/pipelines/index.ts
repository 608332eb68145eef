/** `pipeline(task, model)`: everything between a text and what a task makes of it. */

import { OptionError } from '../errors.js'
import {
  PreTrainedModel,
  type PretrainedOptions,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
} from '../models/index.js'
import { AutoTokenizer, type PreTrainedTokenizer } from '../tokenizer/index.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'
import { FeatureExtractionPipeline } from './feature_extraction.js'
import { SummarizationPipeline, Text2TextGenerationPipeline, TranslationPipeline } from './text2text_generation.js'

export { type FeatureExtractionOptions, FeatureExtractionPipeline } from './feature_extraction.js'
export { Pipeline } from './pipeline.js'
export {
  SummarizationPipeline,
  Text2TextGenerationPipeline,
  type Text2TextOptions,
  type Text2TextOutput,
  type TranslationOptions,
  TranslationPipeline,
} from './text2text_generation.js'

export interface PipelineOptions extends PretrainedOptions {
  /** Used instead of the one in the model's repository; needed where the model is an object. */
  tokenizer?: PreTrainedTokenizer
}

export interface Tasks {
  'text2text-generation': Text2TextGenerationPipeline
  summarization: SummarizationPipeline
  translation: TranslationPipeline
  'feature-extraction': FeatureExtractionPipeline
}

type Generating = SwitchTransformersForConditionalGeneration

/**
 * Loads a model with its tokenizer and makes the pipeline of a task. `model` is a name or a folder, or a model that is
 * loaded already (which the pipeline then owns: its `dispose` frees it).
 *
 * `translation_en_to_fr` and its like are `translation` with that entry of the model's `task_specific_params`.
 */
export async function pipeline<Task extends keyof Tasks | `translation_${string}`>(
  task: Task,
  model: string | Generating | SwitchTransformersEncoderModel,
  options: PipelineOptions = {},
): Promise<Task extends keyof Tasks ? Tasks[Task] : TranslationPipeline> {
  const kind = typeof task === 'string' && task.startsWith('translation_') ? 'translation' : task
  const model_class =
    kind === 'feature-extraction'
      ? SwitchTransformersEncoderModel
      : (SwitchTransformersForConditionalGeneration as unknown as typeof SwitchTransformersEncoderModel)
  if (!KINDS.includes(kind as string)) {
    throw new OptionError('UNSUPPORTED_OPTION', `There is no task ${show(task)}; there are ${KINDS.join(', ')}.`, {
      details: { option: 'task' },
    })
  }
  const parts = await load_parts(task, model, model_class, options)
  return make(kind as keyof Tasks, parts) as never
}

const KINDS: readonly string[] = [
  'text2text-generation',
  'summarization',
  'translation',
  'feature-extraction',
] satisfies (keyof Tasks)[]

async function load_parts(
  task: string,
  model: unknown,
  model_class: typeof SwitchTransformersEncoderModel,
  { tokenizer, ...options }: PipelineOptions,
): Promise<{ task: string; model: never; tokenizer: PreTrainedTokenizer }> {
  if (typeof model === 'string') {
    // The tokenizer first: it is small, and what is wrong with a repository shows on it before the weights are loaded.
    const {
      backend: _b,
      config: _c,
      device: _d,
      dtype: _t,
      routing: _r,
      variant: _v,
      progress_callback,
      ...hub
    } = options
    const own =
      tokenizer ??
      (await AutoTokenizer.from_pretrained(model, { ...hub, ...(progress_callback && { progress_callback }) }))
    return { task, model: (await model_class.from_pretrained(model, options)) as never, tokenizer: own }
  }
  if (!(model instanceof PreTrainedModel) || !(model instanceof model_class)) {
    throw invalid_option('model', `The model of ${task} must be a name, a folder or a ${model_class.architecture}.`)
  }
  if (tokenizer === undefined) {
    throw invalid_option('tokenizer', 'Give the tokenizer too: pipeline(task, model, { tokenizer }).')
  }
  return { task, model: model as never, tokenizer }
}

function make(
  kind: keyof Tasks,
  parts: { task: string; model: never; tokenizer: PreTrainedTokenizer },
): Tasks[keyof Tasks] {
  switch (kind) {
    case 'text2text-generation':
      return new Text2TextGenerationPipeline(parts)
    case 'summarization':
      return new SummarizationPipeline(parts)
    case 'translation':
      return new TranslationPipeline(parts)
    case 'feature-extraction':
      return new FeatureExtractionPipeline(parts)
  }
}
