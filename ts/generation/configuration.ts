/** `GenerationConfig`: the options that a checkpoint's `generation_config.json` gives to `generate`. */

import { REFERENCE_VERSION, type SwitchTransformersConfig } from '../configuration.js'
import { ConfigError } from '../errors.js'
import { write_text_file } from '../utils/files.js'
import { copy_of, is_record, sorted_json } from '../utils/json.js'
import { type RepositoryOptions, read_repository_json } from '../utils/repository.js'
import { type GenerationOptions, OPTION_NAMES } from './options.js'

/** Options that are not available and without which other tokens would be chosen: `generate` refuses them. */
const MISSED: ReadonlySet<string> = new Set(['dola_layers', 'force_words_ids', 'token_healing', 'watermarking_config'])

/**
 * Generation options as properties. Unset ones are undefined and take the defaults of `generate`; names that are no
 * options of this library are kept and saved again. They have no effect, unless they would choose other tokens
 * (`force_words_ids`): those `generate` refuses.
 */
export class GenerationConfig {
  declare max_length?: number | null
  declare max_new_tokens?: number | null
  declare eos_token_id?: number | number[] | null
  declare pad_token_id?: number | null
  declare bos_token_id?: number | null
  declare decoder_start_token_id?: number | null
  declare num_beams?: number | null
  declare do_sample?: boolean | null;
  [option: string]: unknown

  constructor(values: GenerationOptions & Record<string, unknown> = {}) {
    if (!is_record(values)) throw new ConfigError('A generation config must be an object of options.')
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || name in GenerationConfig.prototype) continue
      this[name] = value
    }
  }

  /** Reads `generation_config.json` of a repository on the hub or of a folder. */
  static async from_pretrained(
    name_or_path: string,
    options: RepositoryOptions & Record<string, unknown> = {},
  ): Promise<GenerationConfig> {
    return GenerationConfig.from_dict(await read_repository_json(name_or_path, 'generation_config.json', options))
  }

  /** The config that the object of a `generation_config.json` describes. */
  static from_dict(values: unknown): GenerationConfig {
    if (!is_record(values)) throw new ConfigError('generation_config.json must hold a JSON object.')
    return new GenerationConfig(values)
  }

  /** The options that a model config holds, for checkpoints without a `generation_config.json`. */
  static from_model_config(config: SwitchTransformersConfig): GenerationConfig {
    const values = Object.entries(config.to_dict()).filter(([name, value]) => OPTION_NAMES.has(name) && value !== null)
    return new GenerationConfig({ ...Object.fromEntries(values), _from_model_config: true })
  }

  /** The options that are set, as plain JSON values. */
  to_dict(): Record<string, unknown> {
    const values = Object.entries(this).filter(([, value]) => value !== undefined)
    return copy_of({ ...Object.fromEntries(values), transformers_version: REFERENCE_VERSION })
  }

  /** The text of `generation_config.json`. */
  to_json_string(): string {
    return sorted_json(this.to_dict())
  }

  /** Writes `generation_config.json` into a folder. Node only. */
  async save_pretrained(directory: string): Promise<void> {
    await write_text_file(directory, 'generation_config.json', this.to_json_string())
  }
}

/** The options among a config's properties, without what is unset or unknown. */
export function options_of(config: GenerationConfig | null): Record<string, unknown> {
  if (config === null) return {}
  const entries = Object.entries(config).filter(
    ([name, value]) => value !== undefined && value !== null && (OPTION_NAMES.has(name) || MISSED.has(name)),
  )
  return Object.fromEntries(entries)
}
