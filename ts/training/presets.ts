/** Configs of models that are small enough to be trained from nothing on one machine. */

import { OptionError } from '../errors.js'
import { SIZES, size_config } from '../inspect/presets.js'
import { has_own, show } from '../utils/json.js'

/** What all have in common: every other layer is sparse with 8 experts, and one matrix serves both embeddings and the head. */
const COMMON = {
  architectures: ['SwitchTransformersForConditionalGeneration'],
  num_experts: 8,
  expert_capacity: 64,
  dropout_rate: 0.1,
  router_jitter_noise: 0.01,
  router_aux_loss_coef: 0.01,
  router_z_loss_coef: 0.001,
  relative_attention_max_distance: 64,
  decoder_start_token_id: 0,
  pad_token_id: 0,
  eos_token_id: 1,
  tie_word_embeddings: true,
} as const

/** With a vocabulary of 100: 0.5 M, 5.5 M and 49 M parameters. `small` is the embedded model's. */
const PRESETS = {
  tiny: { layers: 2, d_model: 64, num_heads: 4 },
  small: { layers: 4, d_model: 128, num_heads: 4 },
  medium: { layers: 8, d_model: 256, num_heads: 8 },
} as const

export const TRAINING_PRESETS = ['tiny', 'small', 'medium'] as const

/**
 * The config of `tiny`, `small` or `medium`, or of a published size such as `base-8`, for a vocabulary.
 *
 * @throws {OptionError} `INVALID_OPTION` for a name that is no preset.
 */
export function training_config(preset: string, vocab_size: number): Record<string, unknown> {
  if (has_own(PRESETS, preset)) {
    const { layers, d_model, num_heads } = PRESETS[preset as keyof typeof PRESETS]
    return {
      ...COMMON,
      vocab_size,
      d_model,
      num_heads,
      d_kv: d_model / num_heads,
      d_ff: 4 * d_model,
      num_layers: layers,
      num_decoder_layers: layers,
      num_sparse_encoder_layers: layers / 2,
      num_sparse_decoder_layers: layers / 2,
    }
  }
  if ((SIZES as readonly string[]).includes(preset)) return { ...size_config(preset), vocab_size }
  throw new OptionError(
    'INVALID_OPTION',
    `A config is one of ${[...TRAINING_PRESETS, ...SIZES].join(', ')}, not ${show(preset)}.`,
    { details: { option: 'config', value: preset } },
  )
}
