/** Classes that look into `config.json` for what to make. One kind of model is known here. */

import { SwitchTransformersConfig, type SwitchTransformersConfigValues } from '../configuration.js'
import type { RepositoryOptions } from '../utils/repository.js'
import type { PretrainedOptions } from './loading.js'
import type { InitOptions } from './pretrained_model.js'
import { SwitchTransformersForConditionalGeneration, SwitchTransformersModel } from './switch_transformers.js'

/** The config of whatever model a repository holds. */
// biome-ignore lint/complexity/noStaticOnlyClass: a class in the reference and in transformers.js.
export class AutoConfig {
  static from_pretrained(
    name_or_path: string,
    options: RepositoryOptions & Record<string, unknown> = {},
  ): Promise<SwitchTransformersConfig> {
    return SwitchTransformersConfig.from_pretrained(name_or_path, options)
  }
}

/** The model that generates text from text. */
// biome-ignore lint/complexity/noStaticOnlyClass: a class in the reference and in transformers.js.
export class AutoModelForSeq2SeqLM {
  static from_pretrained(
    name_or_path: string,
    options?: PretrainedOptions,
  ): Promise<SwitchTransformersForConditionalGeneration> {
    return SwitchTransformersForConditionalGeneration.from_pretrained(name_or_path, options)
  }

  static from_config(
    config: SwitchTransformersConfig | SwitchTransformersConfigValues,
    options?: InitOptions,
  ): Promise<SwitchTransformersForConditionalGeneration> {
    return SwitchTransformersForConditionalGeneration.from_config(config, options)
  }
}

/** The model without a head. */
// biome-ignore lint/complexity/noStaticOnlyClass: a class in the reference and in transformers.js.
export class AutoModel {
  static from_pretrained(name_or_path: string, options?: PretrainedOptions): Promise<SwitchTransformersModel> {
    return SwitchTransformersModel.from_pretrained(name_or_path, options)
  }

  static from_config(
    config: SwitchTransformersConfig | SwitchTransformersConfigValues,
    options?: InitOptions,
  ): Promise<SwitchTransformersModel> {
    return SwitchTransformersModel.from_config(config, options)
  }
}
