/** The published sizes of Switch Transformers, for checkpoints made without downloading one. */

import { OptionError } from '../errors.js'
import { show } from '../utils/json.js'

/**
 * Names of the sizes, as in the hub's `google/switch-NAME`. The number is that of the experts per sparse layer.
 * base-8 has 619 M parameters, base-256 14.7 B, large-128 26.3 B.
 */
export const SIZES = ['base-8', 'base-16', 'base-32', 'base-64', 'base-128', 'base-256', 'large-128'] as const

export type SizeName = (typeof SIZES)[number]

/** What all sizes share: T5's vocabulary and relative positions, every other layer sparse, one matrix for both embeddings and the head. */
const COMMON = {
  architectures: ['SwitchTransformersForConditionalGeneration'],
  model_type: 'switch_transformers',
  vocab_size: 32128,
  d_kv: 64,
  expert_capacity: 64,
  encoder_sparse_step: 2,
  decoder_sparse_step: 2,
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
  dense_act_fn: 'relu',
  router_bias: false,
  router_dtype: 'float32',
  tie_word_embeddings: true,
  decoder_start_token_id: 0,
  pad_token_id: 0,
  eos_token_id: 1,
} as const

const BASE = {
  d_model: 768,
  d_ff: 3072,
  num_heads: 12,
  num_layers: 12,
  num_decoder_layers: 12,
  num_sparse_encoder_layers: 6,
  num_sparse_decoder_layers: 6,
} as const

const LARGE = {
  d_model: 1024,
  d_ff: 4096,
  num_heads: 16,
  num_layers: 24,
  num_decoder_layers: 24,
  num_sparse_encoder_layers: 12,
  num_sparse_decoder_layers: 12,
} as const

/**
 * The config of a published size, as plain fields that `SwitchTransformersConfig` takes.
 *
 * @throws {OptionError} `INVALID_OPTION` for a name that is no size.
 */
export function size_config(size: string): Record<string, unknown> {
  if (!(SIZES as readonly string[]).includes(size)) {
    throw new OptionError('INVALID_OPTION', `size must be one of ${SIZES.join(', ')}, not ${show(size)}.`, {
      details: { option: 'size', value: size },
    })
  }
  const [family, experts] = size.split('-') as [string, string]
  return { ...COMMON, ...(family === 'large' ? LARGE : BASE), num_experts: Number(experts) }
}
