/** From the arguments of `generate` to what the engine starts a session with. */

import type { WireTensor } from '../backend/contract.js'
import { wire } from '../backend/wire.js'
import type { SwitchTransformersConfig } from '../configuration.js'
import { InputError } from '../errors.js'
import type { BackendHandle } from '../models/handle.js'
import {
  type EncoderOutputs,
  encoder_states,
  exactly_one,
  type FloatsInput,
  flag,
  type IdsInput,
  InputTensors,
  type MaskInput,
  same_rows,
} from '../models/inputs.js'
import { to_ids } from '../tensor.js'
import { invalid_option } from '../utils/invalid_option.js'
import { is_record, show } from '../utils/json.js'
import { GenerationConfig, options_of } from './configuration.js'
import { type LogitsProcessorFunction, type LogitsProcessorList, to_processors } from './logits_process.js'
import { type GenerationOptions, merge_options, to_wire_options } from './options.js'
import {
  type StoppingCriteriaFunction,
  type StoppingCriteriaList,
  StopStringCriteria,
  to_criteria,
} from './stopping_criteria.js'
import type { BaseStreamer, StreamerTokenizer } from './streamers.js'

/** What is read by the encoder, or has been. */
export interface GenerateInputs {
  /** Token ids [rows, tokens]. Also `inputs`. */
  input_ids?: IdsInput | null
  inputs?: IdsInput | null
  /** Embeddings instead of ids, float32 [rows, tokens, d_model]. */
  inputs_embeds?: FloatsInput | null
  /** An earlier encoder output instead of ids. */
  encoder_outputs?: EncoderOutputs | null
  /** 1 for tokens, 0 for padding [rows, tokens]. Default: all are tokens, as in the reference, padding ids too. */
  attention_mask?: MaskInput | null
  /** What each output begins with [rows, tokens]. The start token is put in front of rows that lack it. */
  decoder_input_ids?: IdsInput | null
}

/** Token ids alone, in place of an object of inputs. */
export type IdsLike = IdsInput

/** Arguments of `generate` that are no generation options. */
export interface GenerateExtras {
  /** Options that win over the model's own and yield to those beside it. */
  generation_config?: GenerationConfig | GenerationOptions | null
  /** Gets tokens as they come. One beam only. */
  streamer?: BaseStreamer | null
  /** More reasons to end a row. */
  stopping_criteria?: StoppingCriteriaFunction | StoppingCriteriaFunction[] | StoppingCriteriaList | null
  /** Changes scores before a token is chosen. */
  logits_processor?: LogitsProcessorFunction | LogitsProcessorFunction[] | LogitsProcessorList | null
  /** Decodes, for `stop_strings` and for the text of `stream`. */
  tokenizer?: StreamerTokenizer | null
  /** In `stream`, and with `return_dict_in_generate`: which expert took each token at each sparse layer. Default false. */
  output_routes?: boolean | null
  /** With `return_dict_in_generate`: return `profile`, where the time went. Default false. */
  profile?: boolean | null
  /** Ends the generation with an `AbortError` within one step. */
  signal?: AbortSignal | null
}

export type GenerateArguments = GenerateInputs & GenerateExtras & GenerationOptions

/** The part of a model that generation needs. */
export interface GenerationHost {
  readonly handle: BackendHandle
  readonly config: SwitchTransformersConfig
  readonly generation_config: GenerationConfig
}

export interface PreparedGeneration {
  tensors: WireTensor[]
  options: Record<string, unknown>
  /** What the engine is asked to record. */
  outputs: string[]
  /** What the result holds beside the sequences: a tensor per step or layer each. */
  recorded: string[]
  /** The decoder's first tokens, per row of input. */
  prompt: number[][]
  /** Whether an object is to be returned. */
  return_dict: boolean
  /** Whether it is to say where the time went. */
  profile: boolean
  processors: LogitsProcessorList | null
  criteria: StoppingCriteriaList | null
  streamer: BaseStreamer | null
  tokenizer: StreamerTokenizer | null
  signal: AbortSignal | null
}

const INPUTS = [
  'input_ids',
  'inputs',
  'inputs_embeds',
  'encoder_outputs',
  'attention_mask',
  'decoder_input_ids',
] as const
const EXTRAS = [
  'generation_config',
  'streamer',
  'stopping_criteria',
  'logits_processor',
  'tokenizer',
  'output_routes',
  'profile',
  'signal',
] as const

/** Which outputs each flag asks of the engine. `output_scores` and `output_logits` it takes from the options themselves. */
const RECORDED: Readonly<Record<string, readonly string[]>> = {
  output_attentions: ['encoder_attentions', 'decoder_attentions', 'cross_attentions'],
  output_hidden_states: ['encoder_hidden_states', 'decoder_hidden_states'],
  output_router_logits: ['encoder_router_logits', 'decoder_router_logits'],
}
const ROUTES = ['encoder_routes', 'decoder_routes']

/** Puts the two forms of calling, `generate({...})` and `generate(inputs, {...})`, into one object. */
export function join_arguments(first: unknown, second: unknown): Record<string, unknown> {
  if (second !== undefined && second !== null && !is_record(second)) {
    throw invalid_option('options', `The options of generate must be an object, not ${show(second)}.`)
  }
  if (first === undefined || first === null) throw new InputError('generate needs inputs, such as { input_ids }.')
  const named = is_record(first) && !('data' in first && 'dims' in first) && !ArrayBuffer.isView(first)
  return { ...(named ? first : { input_ids: first }), ...((second ?? {}) as object) }
}

/** Checks everything that JavaScript can check and joins the options. `streaming`: tokens are handed out with their routes. */
export function prepare_generation(
  host: GenerationHost,
  args: Record<string, unknown>,
  streaming = false,
): PreparedGeneration {
  const inputs = take<GenerateInputs>(args, INPUTS)
  const extras = take<GenerateExtras>(args, EXTRAS)
  const { tokenizer = null, streamer = null, signal = null } = extras
  const base = extras.generation_config
  if (base !== undefined && base !== null && !is_record(base)) {
    throw invalid_option('generation_config', `generation_config must be an object of options, not ${show(base)}.`)
  }
  const given = is_record(base) && !(base instanceof GenerationConfig) ? merge_options(base) : options_of(base ?? null)
  const merged = to_wire_options(merge_options(options_of(host.generation_config), given, args))
  const { stop_strings, ...options } = merged

  check_streamer(streamer, options, streaming)
  const criteria = to_criteria(extras.stopping_criteria)
  const stops = stop_strings !== undefined && stop_strings !== null
  if (typeof tokenizer?.decode !== 'function' && (stops || tokenizer !== null)) {
    throw invalid_option(
      stops ? 'stop_strings' : 'tokenizer',
      `stop_strings needs a tokenizer with the method decode; found ${show(tokenizer)}.`,
    )
  }
  if (stops) criteria.push(new StopStringCriteria(tokenizer as StreamerTokenizer, stop_strings as string | string[]))
  const processors = to_processors(extras.logits_processor)

  const { tensors, rows } = encoder_inputs(host, inputs)
  const prompt = decoder_prompt(host, inputs.decoder_input_ids, options, rows, tensors)

  const return_dict = flag('return_dict_in_generate', options.return_dict_in_generate, false)
  // Without an object to put them in, the reference ignores them too.
  const asked = (name: string, value: unknown) => return_dict && flag(name, value, false)
  const outputs = Object.entries(RECORDED).flatMap(([name, recorded]) => (asked(name, options[name]) ? recorded : []))
  // An encoder whose output is given does not run.
  const there = (name: string) => !(inputs.encoder_outputs && name.startsWith('encoder_'))
  const routes = flag('output_routes', extras.output_routes, false)
  const recorded = [...outputs, ...(routes && return_dict ? ROUTES : [])].filter(there)
  if (routes && streaming && !return_dict) recorded.push('decoder_routes')
  const steps = ['scores', 'logits'].filter((name) => asked(`output_${name}`, options[`output_${name}`]))
  if (options.do_sample === true) options.seed ??= Math.floor(Math.random() * 2 ** 53)
  return {
    tensors,
    options,
    outputs: recorded,
    recorded: [...steps, ...recorded],
    prompt,
    return_dict,
    profile: flag('profile', extras.profile, false) && return_dict,
    processors: processors.length > 0 ? processors : null,
    criteria: criteria.length > 0 ? criteria : null,
    streamer,
    tokenizer,
    signal,
  }
}

/** Takes the named entries out of `args`. */
function take<T>(args: Record<string, unknown>, names: readonly string[]): T {
  const taken: Record<string, unknown> = {}
  for (const name of names) {
    if (args[name] !== undefined) taken[name] = args[name]
    delete args[name]
  }
  return taken as T
}

function check_streamer(streamer: unknown, options: Record<string, unknown>, streaming: boolean): void {
  const { put, end } = (streamer ?? {}) as Record<string, unknown>
  if (streamer !== null && (streaming || typeof put !== 'function' || typeof end !== 'function')) {
    throw invalid_option('streamer', `streamer is for generate, with the methods put and end; found ${show(streamer)}.`)
  }
  if ((streaming || streamer !== null) && (options.num_beams as number) > 1) {
    throw invalid_option('num_beams', 'num_beams must be 1 to stream: beams change what came before.')
  }
}

function encoder_inputs(host: GenerationHost, inputs: GenerateInputs): { tensors: WireTensor[]; rows: number } {
  const { inputs_embeds, encoder_outputs, attention_mask } = inputs
  if (inputs.inputs && inputs.input_ids) {
    throw new InputError('inputs and input_ids are the same argument; give one of them.')
  }
  const given = inputs.input_ids ?? inputs.inputs
  const tensors = new InputTensors(host.config)
  const states =
    encoder_outputs && tensors.states('encoder_outputs', encoder_states(encoder_outputs), 'encoder_hidden_states')
  if (!states) exactly_one('input_ids', given, 'inputs_embeds', inputs_embeds)
  const ids = given && tensors.ids('input_ids', given)
  // The ids that encoder_outputs were made from may come along, as in the reference: some processors look at them.
  if (states && ids) same_rows('input_ids', ids, 'encoder_outputs', states)
  const { dims } = states || ids || tensors.states('inputs_embeds', inputs_embeds as FloatsInput)
  if (attention_mask) tensors.mask('attention_mask', attention_mask, dims)
  return { tensors: tensors.tensors, rows: dims[0] as number }
}

/** The decoder's first tokens, per row: the start token, and what the caller gives after it. The engine puts the same together. */
function decoder_prompt(
  host: GenerationHost,
  given: IdsInput | null | undefined,
  options: Record<string, unknown>,
  rows: number,
  tensors: WireTensor[],
): number[][] {
  const start = options.decoder_start_token_id ?? options.bos_token_id ?? host.config.decoder_start_token_id
  const { vocab_size } = host.config
  if (!(Number.isInteger(start) && (start as number) >= 0 && (start as number) < vocab_size)) {
    const message = `decoder_start_token_id must be a token id from 0 to ${vocab_size - 1}, not ${show(start)}.`
    throw invalid_option('decoder_start_token_id', message)
  }
  options.decoder_start_token_id = start
  const first = [start as number]
  if (given === undefined || given === null) return Array.from({ length: rows }, () => first)
  const { data, dims } = to_ids(given, 'decoder_input_ids', { vocab_size })
  same_rows('decoder_input_ids', { dims }, 'the input', { dims: [rows] })
  tensors.push(wire('decoder_input_ids', data, dims))
  const width = dims[1]
  return Array.from({ length: rows }, (_, row) => {
    const ids = Array.from(data.subarray(row * width, (row + 1) * width))
    return ids[0] === start ? ids : [...first, ...ids]
  })
}
