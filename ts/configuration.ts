/** The configuration of a Switch Transformers model, equal in fields, defaults and files to the reference's. */

import { ALIASES, config_faults, FIELDS, type FieldName, FLOAT_FIELDS, sparse_step } from './configuration_fields.js'
import { ConfigError } from './errors.js'
import { write_text_file } from './utils/files.js'
import { copy_of, has_own, is_record, sorted_json } from './utils/json.js'
import { type RepositoryOptions, read_repository_json } from './utils/repository.js'

export { type ConfigFault, config_faults } from './configuration_fields.js'

/** The version of `transformers` whose files and behaviour this library matches; written into saved configs. */
export const REFERENCE_VERSION = '5.18.0'

/** The values a config may be made from: any field, any alias, and fields that this library does not know. */
export type SwitchTransformersConfigValues = Partial<ConfigFields> & {
  hidden_size?: number
  num_attention_heads?: number
  num_hidden_layers?: number
} & Record<string, unknown>

interface ConfigFields {
  vocab_size: number
  d_model: number
  d_kv: number
  d_ff: number
  expert_capacity: number
  num_layers: number
  num_sparse_encoder_layers: number
  num_decoder_layers: number | null
  num_sparse_decoder_layers: number
  num_heads: number
  num_experts: number
  router_bias: boolean
  router_jitter_noise: number
  router_dtype: 'float32' | 'float16' | 'bfloat16'
  router_ignore_padding_tokens: boolean
  relative_attention_num_buckets: number
  relative_attention_max_distance: number
  dropout_rate: number
  layer_norm_epsilon: number
  router_z_loss_coef: number
  router_aux_loss_coef: number
  initializer_factor: number
  dense_act_fn: string
  is_encoder_decoder: boolean
  add_router_probs: boolean
  use_cache: boolean
  pad_token_id: number | null
  eos_token_id: number | number[] | null
  bos_token_id: number | null
  decoder_start_token_id: number | null
  tie_word_embeddings: boolean
  is_decoder: boolean
  add_cross_attention: boolean
  encoder_sparse_step: number
  decoder_sparse_step: number
}

/**
 * The configuration of a Switch Transformers model. Every field of the reference is a property, with its default;
 * unknown fields are kept and saved again.
 *
 * @throws {ConfigError} `INVALID_CONFIG`, with everything that is wrong in `details.faults`.
 */
export class SwitchTransformersConfig {
  static readonly model_type = 'switch_transformers'
  readonly model_type = 'switch_transformers'

  /** Size of the vocabulary. Default 32128. */
  declare vocab_size: number
  /** Width of the hidden states. Default 768. Also `hidden_size`. */
  declare d_model: number
  /** Width of a head's keys and values. Default 64. */
  declare d_kv: number
  /** Width inside a feed-forward layer, an expert's included. Default 2048. */
  declare d_ff: number
  /** Tokens that an expert takes per row and call. Default 64. */
  declare expert_capacity: number
  /** Encoder layers. Default 12. Also `num_hidden_layers`. */
  declare num_layers: number
  /** Sparse layers in the encoder. Default 3. `encoder_sparse_step` wins over it. */
  declare num_sparse_encoder_layers: number
  /** Decoder layers. Default 12; `null` means as many as the encoder's. */
  declare num_decoder_layers: number
  /** Sparse layers in the decoder. Default 3. `decoder_sparse_step` wins over it. */
  declare num_sparse_decoder_layers: number
  /** Attention heads. Default 12. Also `num_attention_heads`. */
  declare num_heads: number
  /** Experts per sparse layer. Default 8. */
  declare num_experts: number
  /** Whether the router's classifier has a bias. Default false. */
  declare router_bias: boolean
  /** Half width of the uniform noise on the router's input in training. Default 0.01. */
  declare router_jitter_noise: number
  /** The dtype that routing is computed in. Default float32. */
  declare router_dtype: 'float32' | 'float16' | 'bfloat16'
  /** Whether padding takes no place in an expert. Default false. */
  declare router_ignore_padding_tokens: boolean
  /** Buckets of relative positions. Default 32. */
  declare relative_attention_num_buckets: number
  /** Distance from which on the last bucket serves. Default 128. */
  declare relative_attention_max_distance: number
  /** Dropout in training. Default 0.1. */
  declare dropout_rate: number
  /** Added to the variance in layer norms. Default 1e-6. */
  declare layer_norm_epsilon: number
  /** Weight of the router z-loss. Default 0.001. */
  declare router_z_loss_coef: number
  /** Weight of the load-balancing loss. Default 0.001. */
  declare router_aux_loss_coef: number
  /** Scale of random initial weights. Default 1. */
  declare initializer_factor: number
  /** Activation of the feed-forward layers: relu, gelu, silu, …, or gated, as `gated-gelu`. Default relu. */
  declare dense_act_fn: string
  declare is_encoder_decoder: boolean
  declare add_router_probs: boolean
  /** Whether generation keeps keys and values. Default true. */
  declare use_cache: boolean
  declare pad_token_id: number | null
  declare eos_token_id: number | number[] | null
  declare bos_token_id: number | null
  /** The token that decoding starts from; usually the padding token. */
  declare decoder_start_token_id: number | null | undefined
  /** Whether the head is the embedding matrix. Default true. */
  declare tie_word_embeddings: boolean
  declare is_decoder: boolean
  declare add_cross_attention: boolean
  /** Every how many encoder layers one is sparse; from the counts unless given. */
  declare encoder_sparse_step: number
  /** Every how many decoder layers one is sparse; from the counts unless given. */
  declare decoder_sparse_step: number
  /** Names of the classes that the checkpoint is for. */
  declare architectures?: string[] | null;
  [field: string]: unknown

  /** The defaults that stood in for fields not given; a field that still equals its entry was never chosen. */
  readonly #assumed: Readonly<Record<string, unknown>>

  constructor(values: SwitchTransformersConfigValues = {}) {
    if (!is_record(values)) throw new ConfigError('A config must be an object of fields.')
    const given: Record<string, unknown> = {}
    const faults: { field: string; message: string }[] = []
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || name === 'model_type' || name === '__proto__') continue
      const field = has_own(ALIASES, name) ? ALIASES[name as keyof typeof ALIASES] : name
      if (field in SwitchTransformersConfig.prototype) {
        faults.push({ field, message: 'has the name of a method and cannot be kept' })
        continue
      }
      // As in the reference, an alias that comes with the field itself does not win over it.
      if (field !== name && values[field] !== undefined) continue
      // Null stands for "not given", except where it is a value of its own.
      if (value === null && has_own(FIELDS, field) && FIELDS[field as FieldName].check(null) !== null) continue
      given[field] = value
    }
    const model_type = values.model_type
    if (model_type !== undefined && model_type !== SwitchTransformersConfig.model_type) {
      faults.push({ field: 'model_type', message: `must be "switch_transformers", not ${JSON.stringify(model_type)}` })
    }

    const defaults: Record<string, unknown> = {}
    for (const [field, { default: value }] of Object.entries(FIELDS)) if (value !== undefined) defaults[field] = value
    const complete: Record<string, unknown> = { ...defaults, ...given }
    faults.push(...config_faults(complete))
    if (faults.length > 0) throw config_error(faults)

    complete.num_decoder_layers ??= complete.num_layers
    for (const [step, layers, count] of [
      ['encoder_sparse_step', 'num_layers', 'num_sparse_encoder_layers'],
      ['decoder_sparse_step', 'num_decoder_layers', 'num_sparse_decoder_layers'],
    ] as const) {
      complete[step] ??= sparse_step(complete[layers] as number, complete[count] as number)
    }
    Object.assign(this, complete)
    this.#assumed = Object.fromEntries(Object.entries(complete).filter(([field]) => !(field in given)))
  }

  /** Also `d_model`. */
  get hidden_size(): number {
    return this.d_model
  }
  set hidden_size(value: number) {
    this.d_model = value
  }
  /** Also `num_heads`. */
  get num_attention_heads(): number {
    return this.num_heads
  }
  set num_attention_heads(value: number) {
    this.num_heads = value
  }
  /** Also `num_layers`. */
  get num_hidden_layers(): number {
    return this.num_layers
  }
  set num_hidden_layers(value: number) {
    this.num_layers = value
  }

  /**
   * Reads `config.json` of a repository on the hub or of a folder.
   *
   * @throws {ConfigError} when the file is not valid; the hub's and the file errors otherwise.
   */
  static async from_pretrained(
    name_or_path: string,
    options: RepositoryOptions & Record<string, unknown> = {},
  ): Promise<SwitchTransformersConfig> {
    return SwitchTransformersConfig.from_dict(await read_repository_json(name_or_path, 'config.json', options))
  }

  /** The config that `to_dict` of another, or the text of a `config.json`, describes. */
  static from_dict(values: unknown): SwitchTransformersConfig {
    if (!is_record(values)) throw new ConfigError('config.json must hold a JSON object.')
    return new SwitchTransformersConfig(values)
  }

  /** Everything wrong with the current values; empty when nothing is. Constructors have thrown on it already. */
  faults(): { field: string; message: string }[] {
    return config_faults(this.to_dict())
  }

  /** Every field, unknown ones included, as plain JSON values. */
  to_dict(): Record<string, unknown> {
    const fields = Object.fromEntries(Object.entries(this).filter(([, value]) => value !== undefined))
    return copy_of({ ...fields, model_type: this.model_type, transformers_version: REFERENCE_VERSION })
  }

  /**
   * Only the fields that someone chose: those given to the constructor and those set since. A checkpoint's own tensors
   * may decide about the rest.
   */
  chosen(): Record<string, unknown> {
    const fields = this.to_dict()
    for (const [field, value] of Object.entries(this.#assumed)) {
      if (same(fields[field], value)) delete fields[field]
    }
    return fields
  }

  /** The text of `config.json`: keys in order, as the reference writes it. */
  to_json_string(): string {
    return sorted_json(this.to_dict()).replace(WHOLE_FLOAT, '$&.0')
  }

  /** Writes `config.json` into a folder, which is made where it is missing. Node only. */
  async save_pretrained(directory: string): Promise<void> {
    const faults = this.faults()
    if (faults.length > 0) throw config_error(faults)
    await write_text_file(directory, 'config.json', this.to_json_string())
  }
}

/** A field that the reference takes as a float only, where JSON.stringify left the fraction away: it refuses 1 for 1.0. */
const WHOLE_FLOAT = new RegExp(`^ {2}"(?:${FLOAT_FIELDS.join('|')})": \\d+(?=,?$)`, 'gm')

/** One error for all faults. */
export function config_error(faults: { field: string; message: string }[]): ConfigError {
  const lines = faults.map(({ field, message }) => `${field} ${message}`)
  const text = lines.length === 1 ? `Invalid config: ${lines[0]}.` : `Invalid config:\n- ${lines.join('\n- ')}`
  return new ConfigError(text, { details: { faults } })
}

/** Gives a config whatever form it came in. */
export function to_config(config: SwitchTransformersConfig | SwitchTransformersConfigValues): SwitchTransformersConfig {
  return config instanceof SwitchTransformersConfig ? config : new SwitchTransformersConfig(config)
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}

export type { FieldName }
