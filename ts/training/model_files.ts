/** A trained model as the files of a folder that every loader of the library, and the reference, takes. */

import type { LoraOptions } from '../backend/training_contract.js'
import { REFERENCE_VERSION, SwitchTransformersConfig } from '../configuration.js'
import { ADAPTER_CONFIG, adapter_config_text } from '../models/adapter_config.js'
import { base_name } from '../models/adapters.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'
import { tokenizer_files } from '../tokenizer/saving.js'
import type { CompleteArguments } from './arguments.js'
import type { TrainingEngine } from './engine.js'
import { type StoredFile, text_file } from './store/store.js'

/** A model's folder with its weights in one type. */
export async function* model_files(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  engine: TrainingEngine,
  dtype: 'float32' | 'bfloat16' | 'float16',
): AsyncGenerator<StoredFile, void, undefined> {
  yield* engine.weight_files(dtype)
  for (const [name, text] of Object.entries(model_texts(model, tokenizer, dtype))) yield text_file(name, text)
}

/** Adapters in PEFT's layout, with the tokenizer. */
export async function* adapter_files(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  engine: TrainingEngine,
  args: CompleteArguments,
): AsyncGenerator<StoredFile, void, undefined> {
  yield* engine.part_files('adapters', { format: 'pt' })
  yield text_file(ADAPTER_CONFIG, adapter_text(model, engine, args))
  for (const [name, text] of Object.entries(tokenizer_files(tokenizer))) yield text_file(name, text)
}

/** Configs and tokenizer of a model whose weights are stored in `dtype`. */
export function model_texts(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  dtype: string,
): Record<string, string> {
  const config = new SwitchTransformersConfig({
    ...model.config.to_dict(),
    architectures: ['SwitchTransformersForConditionalGeneration'],
    dtype,
    // What is stored in floating point is not quantised.
    quantization_config: undefined,
    transformers_version: REFERENCE_VERSION,
  })
  return {
    'config.json': config.to_json_string(),
    'generation_config.json': model.generation_config.to_json_string(),
    ...tokenizer_files(tokenizer),
  }
}

export function adapter_text(
  model: SwitchTransformersForConditionalGeneration,
  engine: TrainingEngine,
  args: CompleteArguments,
): string {
  // The ends of names mean every module that ends so, whatever is frozen.
  const partly = args.frozen !== null || args.trainable !== 'all'
  return adapter_config_text(args.lora as LoraOptions, base_name(model), partly ? engine.adapted_modules : null)
}
