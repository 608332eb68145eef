/** The forward pass: named inputs in, the reference's outputs out, and only those that were asked for. */

import type { Operations, WireTensor } from '../backend/contract.js'
import type { SwitchTransformersConfig } from '../configuration.js'
import { InputError, OptionError } from '../errors.js'
import { show } from '../utils/json.js'
import type { BackendHandle } from './handle.js'
import {
  type EncoderOutputs,
  encoder_states,
  exactly_one,
  type FloatsInput,
  flag,
  type IdsInput,
  InputTensors,
  type MaskInput,
  refuse_unknown,
  same_rows,
} from './inputs.js'
import { PastKeyValues, to_past_key_values } from './past_key_values.js'

export interface EncoderInputs {
  /** Token ids [rows, tokens]. */
  input_ids?: IdsInput | null
  /** Embeddings instead of ids, float32 [rows, tokens, d_model]. */
  inputs_embeds?: FloatsInput | null
  /** 1 for tokens, 0 for padding [rows, tokens]. Default: all tokens. */
  attention_mask?: MaskInput | null
  /** Return the embeddings and every layer's output. Default false. */
  output_hidden_states?: boolean | null
  /** Return every layer's attention weights. Default false. */
  output_attentions?: boolean | null
  /** Return every sparse layer's router logits. Default false. */
  output_router_logits?: boolean | null
  /** Return which expert took each token in every sparse layer. Default false. */
  output_routes?: boolean | null
  /** Return `profile`: where the time went. Default false. */
  profile?: boolean | null
  /** Outputs are always objects; false is refused. */
  return_dict?: boolean | null
}

export interface Seq2SeqInputs extends EncoderInputs {
  /** An earlier encoder output, instead of ids. */
  encoder_outputs?: EncoderOutputs | null
  decoder_input_ids?: IdsInput | null
  decoder_inputs_embeds?: FloatsInput | null
  /** 1 for tokens, 0 for padding: [rows, tokens], those in the cache included. */
  decoder_attention_mask?: MaskInput | null
  /** What an earlier call returned; this call's tokens follow the ones it holds. */
  past_key_values?: PastKeyValues | null
  /** Return `past_key_values`. Default: whether some were given. */
  use_cache?: boolean | null
}

export interface ConditionalGenerationInputs extends Seq2SeqInputs {
  /** Token ids [rows, tokens] that a loss is computed for; -100 is left out. Decoder inputs default to them, shifted. */
  labels?: IdsInput | null
}

/** What a model has, which decides about its arguments and outputs. */
export interface ForwardParts {
  decoder: boolean
  head: boolean
}

const ENCODER_NAMES = [
  'input_ids',
  'inputs_embeds',
  'attention_mask',
  'output_hidden_states',
  'output_attentions',
  'output_router_logits',
  'output_routes',
  'profile',
  'return_dict',
]
const DECODER_NAMES = [
  'encoder_outputs',
  'decoder_input_ids',
  'decoder_inputs_embeds',
  'decoder_attention_mask',
  'past_key_values',
  'use_cache',
]

/** Positions that a loss leaves out. */
const IGNORED_LABEL = -100

export interface ForwardRequest {
  request: Omit<Operations['model_forward']['request'], 'model'>
  tensors: WireTensor[]
  past_key_values?: PastKeyValues
}

/** Checks the inputs of a forward pass and says what to ask of the engine. */
export function prepare_forward(
  parts: ForwardParts,
  config: SwitchTransformersConfig,
  handle: BackendHandle,
  inputs: ConditionalGenerationInputs,
): ForwardRequest {
  const known = new Set([...ENCODER_NAMES, ...(parts.decoder ? DECODER_NAMES : []), ...(parts.head ? ['labels'] : [])])
  refuse_unknown('forward', inputs as Record<string, unknown>, known)
  if (!flag('return_dict', inputs.return_dict, true)) {
    throw new OptionError('UNSUPPORTED_OPTION', 'return_dict: false is not supported: outputs are objects here.', {
      details: { option: 'return_dict' },
    })
  }
  const tensors = new InputTensors(config)
  const past = parts.decoder ? to_past_key_values(inputs.past_key_values) : undefined
  // A cache holds what the encoder's output has become; what is given beside it has been read already.
  const encoder = past === undefined ? encoder_tensors(tensors, inputs) : undefined
  if (parts.decoder) decoder_tensors(tensors, inputs, encoder, past !== undefined, parts.head)
  const use_cache = parts.decoder && flag('use_cache', inputs.use_cache, past !== undefined)
  const profile = flag('profile', inputs.profile, false)
  const output_router_logits = flag('output_router_logits', inputs.output_router_logits, false)
  return {
    request: {
      outputs: wanted_outputs(parts, inputs, output_router_logits),
      ...(past !== undefined && { past_key_values: past.id_in(handle.backend) }),
      ...(use_cache && { use_cache }),
      ...(output_router_logits && { output_router_logits }),
      ...(profile && { profile }),
    },
    tensors: tensors.tensors,
    ...(past !== undefined && { past_key_values: past }),
  }
}

function encoder_tensors(tensors: InputTensors, inputs: Seq2SeqInputs): { dims: readonly number[] } {
  const { input_ids, inputs_embeds, encoder_outputs, attention_mask } = inputs
  let shape: { dims: readonly number[] }
  if (encoder_outputs) {
    shape = tensors.states('encoder_outputs', encoder_states(encoder_outputs), 'encoder_hidden_states')
  } else {
    exactly_one('input_ids', input_ids, 'inputs_embeds', inputs_embeds)
    shape = input_ids
      ? tensors.ids('input_ids', input_ids)
      : tensors.states('inputs_embeds', inputs_embeds as FloatsInput)
  }
  if (attention_mask) tensors.mask('attention_mask', attention_mask, shape.dims)
  return shape
}

function decoder_tensors(
  tensors: InputTensors,
  inputs: ConditionalGenerationInputs,
  encoder: { dims: readonly number[] } | undefined,
  continued: boolean,
  head: boolean,
): void {
  const { decoder_input_ids, decoder_inputs_embeds, decoder_attention_mask, labels } = inputs
  let shape: { dims: readonly number[] } | undefined
  if (labels) {
    const found = tensors.ids('labels', labels, [IGNORED_LABEL])
    if (encoder) same_rows('labels', found, 'the input', encoder)
    // Without decoder inputs the engine shifts the labels.
    if (!decoder_input_ids && !decoder_inputs_embeds) shape = found
  }
  if (shape === undefined) {
    if (head && !decoder_input_ids && !decoder_inputs_embeds) {
      throw new InputError(
        'Give decoder_input_ids, decoder_inputs_embeds or labels; to continue from a text, use generate.',
      )
    }
    exactly_one('decoder_input_ids', decoder_input_ids, 'decoder_inputs_embeds', decoder_inputs_embeds)
    shape = decoder_input_ids
      ? tensors.ids('decoder_input_ids', decoder_input_ids)
      : tensors.states('decoder_inputs_embeds', decoder_inputs_embeds as FloatsInput)
    if (encoder)
      same_rows(decoder_input_ids ? 'decoder_input_ids' : 'decoder_inputs_embeds', shape, 'the input', encoder)
    const expected = tensors.tensors.find((tensor) => tensor.name === 'labels')?.dims
    if (expected !== undefined && expected[1] !== shape.dims[1]) {
      throw new InputError(
        `labels has ${expected[1]} tokens a row, and the decoder's input ${shape.dims[1]}; they must have as many.`,
      )
    }
  }
  // With a cache the mask covers its tokens too, whose number the engine knows.
  if (decoder_attention_mask)
    tensors.mask('decoder_attention_mask', decoder_attention_mask, continued ? undefined : shape.dims)
}

function wanted_outputs(parts: ForwardParts, inputs: ConditionalGenerationInputs, router_logits: boolean): string[] {
  const per_layer = [
    ...(flag('output_hidden_states', inputs.output_hidden_states, false) ? ['hidden_states'] : []),
    ...(flag('output_attentions', inputs.output_attentions, false) ? ['attentions'] : []),
    ...(router_logits ? ['router_logits'] : []),
    ...(flag('output_routes', inputs.output_routes, false) ? ['routes'] : []),
  ]
  if (!parts.decoder) return ['last_hidden_state', ...per_layer]
  const wanted = parts.head ? ['logits'] : ['last_hidden_state']
  if (parts.head && inputs.labels) wanted.push('loss', 'cross_entropy')
  if (parts.head && router_logits) wanted.push('decoder_z_loss', 'decoder_aux_loss')
  wanted.push(...per_layer.map((name) => `decoder_${name}`))
  if (per_layer.includes('attentions')) wanted.push('cross_attentions')
  // The encoder does not run where its output, or a cache made from it, is given.
  if (inputs.encoder_outputs || inputs.past_key_values) return wanted
  wanted.push('encoder_last_hidden_state', ...per_layer.map((name) => `encoder_${name}`))
  if (parts.head && router_logits) wanted.push('encoder_z_loss', 'encoder_aux_loss')
  return wanted
}

/** The cache that a pass returned: the one it was given, or a new one. */
export function returned_cache(
  handle: BackendHandle,
  given: PastKeyValues | undefined,
  reply: Operations['model_forward']['reply'],
): PastKeyValues | undefined {
  if (typeof reply.past_key_values !== 'number') return undefined
  return given ?? new PastKeyValues(handle.backend, reply.past_key_values)
}

/** Throws unless `inputs` is the object of a module's arguments; a bare tensor stands for `hidden_states`. */
export function module_inputs(
  call: string,
  inputs: unknown,
): { hidden_states: FloatsInput; attention_mask?: MaskInput | null } {
  const bare = inputs !== null && typeof inputs === 'object' && !('hidden_states' in inputs)
  const named = bare ? { hidden_states: inputs } : inputs
  refuse_unknown(call, named as Record<string, unknown>, new Set(['hidden_states', 'attention_mask']))
  const { hidden_states } = named as { hidden_states?: unknown }
  if (hidden_states === undefined || hidden_states === null) {
    throw new InputError(`${call} needs hidden_states, float32 [rows, tokens, d_model]; found ${show(hidden_states)}.`)
  }
  return named as { hidden_states: FloatsInput; attention_mask?: MaskInput | null }
}
