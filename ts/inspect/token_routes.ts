/** Which expert takes each token while a sequence is generated. */

import type { SwitchTransformersConfig } from '../configuration.js'
import { is_sparse_layer } from '../configuration_fields.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { Tensor } from '../tensor.js'

export interface LayerRoutes {
  /** Index of the layer in its stack. */
  layer: number
  /** The expert of each token; -1 where its expert had no room and only the residual passes. */
  experts: number[]
}

export interface StackRoutes {
  ids: number[]
  layers: LayerRoutes[]
}

export interface TokenRoutes {
  encoder: StackRoutes
  /** `ids` are what the decoder read: the start token and all generated ones but the last. */
  decoder: StackRoutes
}

/**
 * The routing decisions of one row, as generation takes them.
 *
 * @param input_ids The encoder's ids, without padding.
 * @param sequence The generated row, its start token included, without padding.
 */
export async function token_routes(
  model: SwitchTransformersForConditionalGeneration,
  input_ids: number[],
  sequence: number[],
): Promise<TokenRoutes> {
  const read = sequence.slice(0, -1)
  const { config } = model
  // An expert's capacity counts per call. Generation reads one token a call; a single pass decides alike while no expert can overflow.
  const one_pass = read.length <= config.expert_capacity
  const encoder: number[][] = []
  const decoder: number[][] = []
  const chunks = one_pass ? [read] : read.map((id) => [id])
  let past: Awaited<ReturnType<typeof model.forward>>['past_key_values']
  let encoder_states: Tensor | undefined
  try {
    for (const [i, chunk] of chunks.entries()) {
      const output = await model.forward({
        ...(encoder_states === undefined ? { input_ids: [input_ids] } : { encoder_outputs: [encoder_states] }),
        decoder_input_ids: [chunk],
        output_routes: true,
        ...(!one_pass && { use_cache: true, past_key_values: past ?? null }),
      })
      past = output.past_key_values
      if (i === 0) append(encoder, output.encoder_routes)
      encoder_states ??= output.encoder_last_hidden_state
      append(decoder, output.decoder_routes)
    }
  } finally {
    await past?.dispose()
  }
  return {
    encoder: { ids: input_ids, layers: with_layers(encoder, sparse_layers(config, 'encoder')) },
    decoder: { ids: read, layers: with_layers(decoder, sparse_layers(config, 'decoder')) },
  }
}

function append(layers: number[][], routes: Tensor[] | undefined): void {
  for (const [i, tensor] of (routes ?? []).entries()) {
    layers[i] = [...(layers[i] ?? []), ...Array.from(tensor.data as Int32Array)]
  }
}

function with_layers(experts: number[][], layers: number[]): LayerRoutes[] {
  return experts.map((of_layer, i) => ({ layer: layers[i] ?? i, experts: of_layer }))
}

/** The indices of a stack's sparse layers. */
export function sparse_layers(config: SwitchTransformersConfig, stack: 'encoder' | 'decoder'): number[] {
  const [count, step] =
    stack === 'encoder'
      ? [config.num_layers, config.encoder_sparse_step]
      : [config.num_decoder_layers ?? config.num_layers, config.decoder_sparse_step]
  return Array.from({ length: count }, (_, i) => i).filter((i) => is_sparse_layer(i, step))
}
