/** A trained model as the files of a folder that every loader of the library, and the reference, takes. */

import { REFERENCE_VERSION, SwitchTransformersConfig } from '../configuration.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'
import { tokenizer_files } from '../tokenizer/saving.js'
import type { TrainingEngine } from './engine.js'
import { type StoredFile, text_file } from './store/store.js'

export async function* model_files(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  engine: TrainingEngine,
  dtype: 'float32' | 'bfloat16' | 'float16',
): AsyncGenerator<StoredFile, void, undefined> {
  yield* engine.weight_files(dtype)
  const config = new SwitchTransformersConfig({
    ...model.config.to_dict(),
    architectures: ['SwitchTransformersForConditionalGeneration'],
    dtype,
    transformers_version: REFERENCE_VERSION,
  })
  const texts = {
    'config.json': config.to_json_string(),
    'generation_config.json': model.generation_config.to_json_string(),
    ...tokenizer_files(tokenizer),
  }
  for (const [name, text] of Object.entries(texts)) yield text_file(name, text)
}
