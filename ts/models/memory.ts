/** How much memory a model needs, known from its config alone. */

import { SwitchTransformersConfig, type SwitchTransformersConfigValues, to_config } from '../configuration.js'
import { BackendError } from '../errors.js'
import { invalid_option } from '../utils/invalid_option.js'
import { has_own, is_record, show } from '../utils/json.js'
import type { RepositoryOptions } from '../utils/repository.js'
import { check_option_names, type DtypeName, HUB_OPTIONS, to_dtype } from './options.js'
import { count_parameters } from './parameter_count.js'

export interface MemoryOptions {
  /** What weights are kept as. `auto`, the default: what the config says its checkpoint holds, else float32. */
  dtype?: DtypeName
  /** Rows at a time. Default 1. */
  batch_size?: number
  /** Tokens that the encoder reads, per row. Default 512. */
  input_tokens?: number
  /** Tokens that are generated, per row. Default 64. */
  new_tokens?: number
  /** Default 1. */
  num_beams?: number
}

/** A model whose config is looked up, with the options of `from_pretrained` that say where. */
export interface MemoryRequest extends MemoryOptions, RepositoryOptions {
  /** A folder or a repository on the hub, of which only `config.json` is read; or a config. */
  model: string | SwitchTransformersConfig | SwitchTransformersConfigValues
}

/** Bytes. */
export interface MemoryEstimate {
  weights: number
  /** Keys and values of the decoder, its own and those of the encoder's output. */
  cache: number
  /** Intermediate results at their largest. An estimate; the other two are exact, but for quantised weights. */
  activations: number
  total: number
}

/** What a WASM module can address. */
export const WASM_LIMIT = 2 ** 32

/** Of a parameter. Quantised ones at their least: scales of int8 and what stays in floating point come on top. */
const BYTES = { float32: 4, bfloat16: 2, float16: 2, int8: 1, int4: 0.625, mixed: 0.625 } as const
const NUMBERS = ['batch_size', 'input_tokens', 'new_tokens', 'num_beams'] as const
const OPTION_NAMES: ReadonlySet<string> = new Set(['dtype', ...NUMBERS])
const REQUEST_NAMES: ReadonlySet<string> = new Set(['model', ...OPTION_NAMES, ...HUB_OPTIONS])

/**
 * Bytes that a model takes while it generates, before any weights are downloaded: of a config at once, of a model that is
 * named (`{ model: 'google/switch-base-8', dtype: 'bfloat16' }`) once its `config.json` has been read.
 *
 * @throws {OptionError} for options that are wrong or unknown.
 * @throws {ConfigError} for configs that are not valid; rejects with the hub's and the file errors as well.
 */
export function estimate_memory(request: MemoryRequest): Promise<MemoryEstimate>
export function estimate_memory(
  config: SwitchTransformersConfig | SwitchTransformersConfigValues,
  options?: MemoryOptions,
): MemoryEstimate
export function estimate_memory(
  what: MemoryRequest | SwitchTransformersConfig | SwitchTransformersConfigValues,
  options: MemoryOptions = {},
): MemoryEstimate | Promise<MemoryEstimate> {
  return is_request(what) ? estimate_named(what) : estimate(what, options)
}

function is_request(what: object): what is MemoryRequest {
  return typeof what === 'object' && what !== null && 'model' in what && !(what instanceof SwitchTransformersConfig)
}

async function estimate_named(request: MemoryRequest): Promise<MemoryEstimate> {
  check_option_names('estimate_memory', request, REQUEST_NAMES)
  const { model, dtype, batch_size, input_tokens, new_tokens, num_beams, ...hub } = request
  const options = { dtype, batch_size, input_tokens, new_tokens, num_beams } as MemoryOptions
  // Looked at first: a wrong option should not cost a request.
  check_numbers(options)
  to_dtype(dtype)
  const named = typeof model === 'string'
  return estimate(named ? await SwitchTransformersConfig.from_pretrained(model, { ...hub }) : model, options)
}

function check_numbers(options: MemoryOptions): void {
  for (const name of NUMBERS) {
    const value = options[name]
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) continue
    throw invalid_option(name, `${name} must be an integer of at least 1, not ${show(value)}.`)
  }
}

function estimate(
  config: SwitchTransformersConfig | SwitchTransformersConfigValues,
  options: MemoryOptions,
): MemoryEstimate {
  check_option_names('estimate_memory', options, OPTION_NAMES)
  check_numbers(options)
  const { batch_size: rows = 1, input_tokens = 512, new_tokens = 64, num_beams = 1 } = options
  const checked = to_config(config)
  const { d_model, d_ff, d_kv, num_heads, num_decoder_layers, vocab_size } = checked
  const weights = count_parameters(checked) * BYTES[stored_dtype(checked, options.dtype) ?? 'float32']
  const inner = num_heads * d_kv
  const cache = 4 * 2 * num_decoder_layers * inner * rows * (num_beams * (new_tokens + 1) + input_tokens)
  // The encoder holds a few arrays of each kind at once; one row's attention weights of all heads; then the logits.
  const encoder = rows * input_tokens * (4 * d_model + 4 * inner + 2 * d_ff) + num_heads * input_tokens ** 2
  const logits = 2 * rows * num_beams * vocab_size
  const activations = 4 * Math.max(encoder, logits)
  return { weights, cache, activations, total: weights + cache + activations }
}

/** The dtype that weights will be kept as, where that is known before they are there. */
function stored_dtype(config: SwitchTransformersConfig, dtype: unknown): keyof typeof BYTES | undefined {
  const chosen = to_dtype(dtype)
  if (chosen !== 'auto') return chosen
  if (is_record(config.quantization_config)) return 'int4'
  const named = config.dtype ?? config.torch_dtype
  return typeof named === 'string' && has_own(BYTES, named) ? (named as keyof typeof BYTES) : undefined
}

/**
 * Refuses, before anything is downloaded, a model whose weights alone a WASM module cannot address.
 *
 * @throws {BackendError} `OUT_OF_MEMORY` with the sizes.
 */
export function check_fits_wasm(config: SwitchTransformersConfig, dtype: unknown): void {
  // Where the checkpoint's dtype is not known the smallest is taken: only what cannot fit at all is refused.
  const weights = count_parameters(config) * BYTES[stored_dtype(config, dtype) ?? 'float16']
  if (weights <= WASM_LIMIT) return
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`
  throw new BackendError(
    'OUT_OF_MEMORY',
    `The weights take ${gib(weights)}, and a WASM module addresses ${gib(WASM_LIMIT)}. Use the native backend, or a smaller dtype.`,
    { details: { weights, limit: WASM_LIMIT } },
  )
}
