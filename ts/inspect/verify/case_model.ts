/** The model of a case, reduced to what verification asks of it. */

import type { SwitchTransformersConfig } from '../../configuration.js'
import { end_token_ids } from '../../generation/token_rows.js'
import { SwitchTransformersForConditionalGeneration } from '../../models/switch_transformers.js'
import { Tensor } from '../../tensor.js'
import type { Values } from '../compare.js'
import { gradients } from './gradients.js'
import type { Generated } from './sequences.js'
import type { NamedValues } from './tensors.js'

export interface CaseModel {
  readonly config: SwitchTransformersConfig
  /** Outputs under the forward pass's names, lists as `name.0`, `name.1`, … */
  forward(inputs: ReadonlyMap<string, Tensor>, outputs: readonly string[]): Promise<NamedValues>
  generate(inputs: ReadonlyMap<string, Tensor>, options: Record<string, unknown>): Promise<Generated>
  /** Gradients of the loss by parameter. The model can only be disposed of afterwards. */
  gradients(inputs: ReadonlyMap<string, Tensor>): Promise<NamedValues>
  /** The ids that end a row when these options are given. */
  eos_token_ids(options: Record<string, unknown>): number[]
  dispose(): Promise<void>
}

export interface CaseModelOptions {
  backend: 'native' | 'wasm'
  dtype: 'auto' | 'float32' | 'bfloat16' | 'float16'
  signal?: AbortSignal | undefined
}

export async function load_case_model(folder: string, options: CaseModelOptions): Promise<CaseModel> {
  const { backend, dtype, signal } = options
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, {
    backend,
    dtype,
    local_files_only: true,
    ...(signal && { signal }),
  })
  return {
    config: model.config,
    async forward(inputs, outputs) {
      const wants = (part: string) => outputs.some((name) => name.includes(part))
      const result = await model.forward({
        ...pick(inputs, ['input_ids', 'attention_mask', 'decoder_input_ids', 'decoder_attention_mask', 'labels']),
        output_hidden_states: wants('coder_hidden_states'),
        output_attentions: wants('attentions'),
        // The reference's loss includes the router losses only where router logits are returned.
        output_router_logits: true,
        output_routes: wants('routes'),
        use_cache: false,
      })
      return flat(result as unknown as Record<string, unknown>)
    },
    async generate(inputs, generation_options) {
      const result = await model.generate({
        ...pick(inputs, ['input_ids', 'attention_mask']),
        do_sample: false,
        ...generation_options,
        return_dict_in_generate: true,
        ...('num_beams' in generation_options && { output_scores: true }),
      })
      const { sequences, sequences_scores } = result as unknown as { sequences: Tensor; sequences_scores?: Tensor }
      return {
        sequences: (sequences.tolist() as (number | bigint)[][]).map((row) => row.map(Number)),
        ...(sequences_scores && { sequences_scores: Array.from(sequences_scores.data as Float32Array) }),
      }
    },
    gradients: (inputs) => gradients(model.handle, inputs),
    eos_token_ids: (generation_options) =>
      end_token_ids(generation_options.eos_token_id, model.generation_config?.eos_token_id, model.config.eos_token_id),
    dispose: () => model.dispose(),
  }
}

function pick(tensors: ReadonlyMap<string, Tensor>, names: string[]): Record<string, Tensor> {
  return Object.fromEntries([...tensors].filter(([name]) => names.includes(name)))
}

function flat(result: Record<string, unknown>): NamedValues {
  const values = new Map<string, Values>()
  for (const [name, value] of Object.entries(result)) {
    if (value instanceof Tensor) values.set(name, value as unknown as Values)
    else if (Array.isArray(value)) {
      for (const [i, item] of value.entries())
        if (item instanceof Tensor) values.set(`${name}.${i}`, item as unknown as Values)
    }
  }
  return values
}
