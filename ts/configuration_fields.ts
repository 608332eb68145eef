/**
 * The fields of a Switch Transformers config: defaults (those of `transformers` 5.18.0) and what each may hold.
 * {@link config_faults} finds everything wrong with a set of values at once.
 */

import { show } from './utils/json.js'

/** One thing wrong with one field. */
export interface ConfigFault {
  field: string
  message: string
}

/** Activations of the feed-forward layers, each also as `gated-…` (`wi_0`, `wi_1`, `wo`: T5 v1.1's form). */
export const ACTIVATIONS = [
  'relu',
  'relu2',
  'relu6',
  'leaky_relu',
  'gelu',
  'gelu_python',
  'gelu_new',
  'gelu_fast',
  'gelu_pytorch_tanh',
  'gelu_python_tanh',
  'gelu_accurate',
  'gelu_10',
  'quick_gelu',
  'silu',
  'swish',
  'hardswish',
  'mish',
  'tanh',
  'sigmoid',
  'laplace',
  'sqrtsoftplus',
  'linear',
] as const

export const ROUTER_DTYPES = ['float32', 'float16', 'bfloat16'] as const

/** No published model comes near these, the engine's own; beyond them a config is a mistake or an attack. */
const LIMITS = { width: 2 ** 24, layers: 2 ** 12, experts: 2 ** 20, all_experts: 2 ** 22, tensor: 2 ** 40 }

type Check = (value: unknown) => string | null

function integer(minimum: number, maximum: number = LIMITS.width): Check {
  return (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= minimum && value <= maximum
      ? null
      : `must be an integer from ${minimum} to ${maximum}, not ${show(value)}`
}

function number_in(minimum: number, maximum: number): Check {
  return (value) =>
    typeof value === 'number' && value >= minimum && value <= maximum
      ? null
      : `must be a number from ${minimum} to ${maximum}, not ${show(value)}`
}

const boolean: Check = (value) => (typeof value === 'boolean' ? null : `must be true or false, not ${show(value)}`)

function one_of(values: readonly string[]): Check {
  return (value) =>
    typeof value === 'string' && values.includes(value)
      ? null
      : `must be one of ${values.join(', ')}, not ${show(value)}`
}

function nullable(check: Check): Check {
  return (value) => (value === null || value === undefined ? null : check(value))
}

// Some writers say -1 for "none".
const token_id = integer(-1)

const token_ids: Check = (value) => {
  if (!Array.isArray(value)) return token_id(value) && `must be a token id or a list of token ids, not ${show(value)}`
  if (value.length === 0) return 'must not be an empty list'
  return value.every((id) => token_id(id) === null) ? null : `must hold token ids, not ${show(value)}`
}

const activation: Check = (value) => {
  const name = typeof value === 'string' ? value.replace(/^gated-/, '') : value
  return one_of(ACTIVATIONS)(name) === null
    ? null
    : `must be one of ${ACTIVATIONS.join(', ')} or one of them after "gated-", not ${show(value)}`
}

export interface Field {
  default: unknown
  check: Check
}

/** Every field that has a meaning here. Others are kept as they are. */
export const FIELDS = {
  vocab_size: { default: 32128, check: integer(1) },
  d_model: { default: 768, check: integer(1) },
  d_kv: { default: 64, check: integer(1) },
  d_ff: { default: 2048, check: integer(1) },
  expert_capacity: { default: 64, check: integer(0, 2 ** 32 - 1) },
  num_layers: { default: 12, check: integer(1, LIMITS.layers) },
  num_sparse_encoder_layers: { default: 3, check: integer(0, LIMITS.layers) },
  num_decoder_layers: { default: 12, check: nullable(integer(1, LIMITS.layers)) },
  num_sparse_decoder_layers: { default: 3, check: integer(0, LIMITS.layers) },
  num_heads: { default: 12, check: integer(1) },
  num_experts: { default: 8, check: integer(1, LIMITS.experts) },
  router_bias: { default: false, check: boolean },
  router_jitter_noise: { default: 0.01, check: number_in(0, 1) },
  router_dtype: { default: 'float32', check: one_of(ROUTER_DTYPES) },
  router_ignore_padding_tokens: { default: false, check: boolean },
  // Half of the buckets serve each direction and half of those single distances, hence four at least.
  relative_attention_num_buckets: { default: 32, check: integer(4, 2 ** 20) },
  relative_attention_max_distance: { default: 128, check: integer(1, 2 ** 40) },
  dropout_rate: { default: 0.1, check: number_in(0, 1) },
  layer_norm_epsilon: { default: 1e-6, check: number_in(0, 1) },
  router_z_loss_coef: { default: 0.001, check: number_in(0, 1e9) },
  router_aux_loss_coef: { default: 0.001, check: number_in(0, 1e9) },
  initializer_factor: { default: 1, check: number_in(0, 1e9) },
  dense_act_fn: { default: 'relu', check: activation },
  is_encoder_decoder: { default: true, check: boolean },
  add_router_probs: { default: false, check: boolean },
  use_cache: { default: true, check: boolean },
  pad_token_id: { default: 0, check: nullable(token_id) },
  eos_token_id: { default: 1, check: nullable(token_ids) },
  bos_token_id: { default: null, check: nullable(token_id) },
  decoder_start_token_id: { default: undefined, check: nullable(token_id) },
  tie_word_embeddings: { default: true, check: boolean },
  is_decoder: { default: false, check: boolean },
  add_cross_attention: { default: false, check: boolean },
  encoder_sparse_step: { default: undefined, check: nullable(integer(0, LIMITS.layers)) },
  decoder_sparse_step: { default: undefined, check: nullable(integer(0, LIMITS.layers)) },
} satisfies Record<string, Field>

export type FieldName = keyof typeof FIELDS

/** Fields that the reference checks to be floats, and takes no integer for. */
export const FLOAT_FIELDS = [
  'initializer_factor',
  'layer_norm_epsilon',
  'router_aux_loss_coef',
  'router_z_loss_coef',
] as const satisfies readonly FieldName[]

/** Other names of fields, as the reference's `attribute_map`. */
export const ALIASES = {
  hidden_size: 'd_model',
  num_attention_heads: 'num_heads',
  num_hidden_layers: 'num_layers',
} as const

/**
 * The layers between sparse ones that `count` sparse layers among `layers` imply. 0 sparse layers give a step of
 * `layers`, which makes layer 1 sparse: the reference's checkpoints hold it.
 */
export function sparse_step(layers: number, count: number): number {
  return count > 0 ? Math.floor(layers / count) : layers
}

/** Whether layer `index` is sparse at `step`. */
export function is_sparse_layer(index: number, step: number): boolean {
  return step > 0 && (step === 1 || index % step === 1)
}

/** Everything wrong with `values`, which holds every field of {@link FIELDS}. Empty when nothing is. */
export function config_faults(values: Readonly<Record<string, unknown>>): ConfigFault[] {
  const faults: ConfigFault[] = []
  for (const [field, { check }] of Object.entries(FIELDS) as [FieldName, Field][]) {
    const message = check(values[field])
    if (message !== null) faults.push({ field, message })
  }
  for (const field of ['architectures'] as const) {
    const value = values[field]
    const fits =
      value === undefined || value === null || (Array.isArray(value) && value.every((v) => typeof v === 'string'))
    if (!fits) faults.push({ field, message: `must be a list of class names, not ${show(value)}` })
  }
  const faulty = new Set(faults.map((fault) => fault.field))
  const sound = (...fields: FieldName[]) => fields.every((field) => !faulty.has(field))
  const of = (field: FieldName) => values[field] as number

  if (sound('relative_attention_num_buckets', 'relative_attention_max_distance')) {
    const half = Math.floor(of('relative_attention_num_buckets') / 2)
    if (of('relative_attention_max_distance') <= half) {
      faults.push({
        field: 'relative_attention_max_distance',
        message: `must be more than half of relative_attention_num_buckets (${half}), not ${of('relative_attention_max_distance')}`,
      })
    }
  }
  if (sound('vocab_size')) {
    for (const field of ['pad_token_id', 'eos_token_id', 'bos_token_id', 'decoder_start_token_id'] as const) {
      if (faulty.has(field) || values[field] === null || values[field] === undefined) continue
      for (const id of [values[field]].flat() as number[]) {
        if (id < of('vocab_size')) continue
        faults.push({ field, message: `must be below vocab_size (${of('vocab_size')}), not ${id}` })
      }
    }
  }
  for (const [field, a, b, c] of [
    ['vocab_size', 'vocab_size', 'd_model', undefined],
    ['d_ff', 'd_ff', 'd_model', undefined],
    ['num_heads', 'num_heads', 'd_kv', 'd_model'],
  ] as const) {
    if (!sound(a, b, ...(c ? [c] : []))) continue
    const elements = of(a) * of(b) * (c ? of(c) : 1)
    if (elements <= LIMITS.tensor) continue
    const product = [a, b, c].filter(Boolean).join(' x ')
    faults.push({
      field,
      message: `gives a tensor of ${product} = ${elements} elements; at most ${LIMITS.tensor} are possible`,
    })
  }
  if (sound('num_layers', 'num_decoder_layers', 'num_experts')) {
    const decoder = (values.num_decoder_layers as number | null | undefined) ?? of('num_layers')
    const experts = (of('num_layers') + decoder) * of('num_experts')
    if (experts > LIMITS.all_experts) {
      const message = `gives ${experts} experts in all layers together; at most ${LIMITS.all_experts} are possible`
      faults.push({ field: 'num_experts', message })
    }
  }
  return faults
}
