/**
 * The one boundary between TypeScript and Rust. Both bindings export exactly {@link OPERATIONS}, each with the same
 * shape: a JSON request, tensors and (for files) sources in; a JSON reply and tensors out.
 *
 * Errors cross as an `Error` whose message is the JSON of {@link WireError}.
 */

import type { TrainingOperations } from './training_contract.js'

export type * from './training_contract.js'

/** Element types that cross the boundary. `data` is the little-endian bytes of the elements, row-major. */
export type WireDtype = 'float32' | 'int32' | 'int64' | 'uint8'

export interface WireTensor {
  name: string
  dtype: WireDtype
  dims: number[]
  data: Uint8Array
}

export interface Reply {
  /** JSON of the operation's `reply` type. */
  json: string
  tensors: WireTensor[]
}

/**
 * A file. The native binding maps `path`; the WASM binding calls `read`, which fills `into` from `offset`
 * synchronously (a worker's file handle, blob slice, request or buffer) or throws. The facade gives `path`, `blob`,
 * `address` or `bytes`; the worker makes `read` from it.
 */
export interface Source {
  name: string
  size: number
  path?: string
  blob?: Blob
  address?: SourceAddress
  bytes?: Uint8Array
  read?: (offset: number, into: Uint8Array) => void
}

/** A file on a server that gives it in parts (HTTP range requests). */
export interface SourceAddress {
  url: string
  /** How long a server may be silent. */
  timeout_ms: number
  /** How often in a row a request may fail for a passing reason, and the pause before the first retry. */
  max_retries: number
  retry_delay_ms: number
}

export interface WireError {
  code: string
  message: string
  details?: unknown
}

export type Architecture =
  | 'SwitchTransformersForConditionalGeneration'
  | 'SwitchTransformersModel'
  | 'SwitchTransformersEncoderModel'
  | 'SwitchTransformersTop1Router'
  | 'SwitchTransformersSparseMLP'

export type FloatDtype = 'auto' | 'float32' | 'bfloat16' | 'float16'

/** What weights are kept as. `mixed`: feed-forward layers in int4, attention, embedding and head in int8. */
export type Dtype = FloatDtype | 'int8' | 'int4' | 'mixed'

/** How tokens are given to experts. `reference`: capacity counted per row over the current call, as transformers does. */
export type RoutingPolicy =
  | { type: 'reference' }
  | { type: 'dropless' }
  | { type: 'original'; capacity_factor?: number; expert_capacity?: number; batch_prioritized_routing?: boolean }

export interface TensorEntry {
  name: string
  dtype: string
  shape: number[]
  bytes: number
  file: string
}

export interface LoadOptions {
  architecture: Architecture
  dtype?: Dtype
  device?: string
  expert_device?: string
  routing?: RoutingPolicy
}

/** Where a call spent its time, in milliseconds. */
export interface Profile {
  total_ms: number
  embedding_ms: number
  /** Projections, scores and values of self- and cross-attention. */
  attention_ms: number
  routing_ms: number
  experts_ms: number
  /** Dense feed-forward layers. */
  feed_forward_ms: number
  head_ms: number
  /** Processors, drawing, beams. */
  sampling_ms: number
  /** Norms, residuals and the rest. */
  other_ms: number
  /**
   * Per sparse layer (the encoder's first) and expert. Experts run together: a layer's time is shared out by the tokens
   * that each took.
   */
  expert_ms: number[][]
  expert_tokens: number[][]
}

type Json = Record<string, unknown>

/** Request and reply of every operation. Handles are positive integers, freed by `release`. */
export interface Operations extends TrainingOperations {
  /** What this build is and can do. */
  describe: {
    request: object
    reply: {
      version: string
      backend: 'native' | 'wasm'
      isa: string
      threads: number
      /** `cpu`, then `cuda:0`, `cuda:1`, … */
      devices: string[]
      /** Why a kind of device is not among them. */
      unavailable: Record<string, string>
      operations: string[]
    }
  }
  /** Sets the number of threads that kernels may use. */
  set_threads: { request: { threads: number }; reply: { threads: number } }
  /** Frees a handle of any kind. Unknown handles are an error. */
  release: { request: { handle: number }; reply: object }
  /** Reads the headers of a checkpoint's files. `index` is the text of `*.index.json` for shards. Sources: all files. */
  checkpoint_open: {
    request: { index?: string }
    reply: { checkpoint: number; tensors: TensorEntry[]; metadata: Record<string, string> }
  }
  /** Tensors by name, as float32 or int64 (integers). All when `names` is left out. */
  checkpoint_read: { request: { checkpoint: number; names?: string[] }; reply: object }
  /** Validates a config and fills in every default. `faults` lists everything wrong with it. */
  config_resolve: { request: { config: Json }; reply: { config: Json; faults: { field: string; message: string }[] } }
  /** Begins to load. Missing, unexpected and mis-shaped tensors are all named in one CHECKPOINT_MISMATCH. */
  model_load_start: {
    request: { checkpoint: number; config: Json } & LoadOptions
    reply: { load: number; total_bytes: number }
  }
  /** Loads about `max_bytes` more. When done, `model` is the handle and `load` is gone. */
  model_load_step: {
    request: { load: number; max_bytes: number }
    reply: { loaded_bytes: number; total_bytes: number; model?: number }
  }
  /** A randomly initialised model. */
  model_init: {
    request: { config: Json; seed: number; initializer?: 'reference' | 'paper' } & LoadOptions
    reply: { model: number }
  }
  /** Counts. `parameters_active` is per token, top-1. */
  model_info: {
    request: { model: number }
    reply: {
      parameters: number
      parameters_active: number
      weight_bytes: number
      architecture: Architecture
      config: Json
      dtypes: Record<string, number>
      /** Where it computes: `cpu`, or `cuda:` and a number. */
      device: string
    }
  }
  /** A model's parameter values by name, as float32. All when `names` is left out. */
  model_parameters: { request: { model: number; names?: string[] }; reply: object }
  /**
   * Adds the low-rank adapters of an open checkpoint (in PEFT's layout) to a model's weights, which become float32, under
   * the model's handle. Those of an adapter that is loaded already are taken away. `rank`: what all must have; null where
   * they differ. What does not fit is named in one CHECKPOINT_MISMATCH.
   */
  model_load_adapter: {
    request: {
      model: number
      checkpoint: number
      options: { rank: number | null; alpha: number; alpha_pattern?: Record<string, number>; rank_stabilised?: boolean }
    }
    reply: { adapters: number }
  }
  /** Takes the adapters away, or, with `merge`, keeps them for good. */
  model_unload_adapter: { request: { model: number; merge: boolean }; reply: object }
  /**
   * The forward pass. Ids, masks and labels cross as int32. Tensors in: those of the reference's `forward` (`input_ids`, `inputs_embeds`, `attention_mask`,
   * `decoder_input_ids`, `decoder_inputs_embeds`, `decoder_attention_mask`, `encoder_hidden_states` (the encoder's
   * output), `labels`; `hidden_states` for the modules). Tensors out: `logits`, `last_hidden_state`, `loss`,
   * `encoder_last_hidden_state`, `encoder_hidden_states.N`, `decoder_hidden_states.N`, `encoder_attentions.N`,
   * `decoder_attentions.N`, `cross_attentions.N`, `encoder_router_logits.N`, `decoder_router_logits.N`,
   * `encoder_routes.N`, `decoder_routes.N` (int32 expert index, -1 for dropped), `cross_entropy`, `encoder_z_loss`, …
   * Only those in `outputs` (a name without its `.N`) cross.
   *
   * The modules take `hidden_states` (and `attention_mask`, where padding is ignored). Out: `router_logits` [rows,
   * tokens, experts], `routes` (int32 [rows, tokens]), `router_weights` [rows, tokens] and, of the sparse layer,
   * `last_hidden_state`.
   */
  model_forward: {
    request: {
      model: number
      outputs: string[]
      past_key_values?: number
      use_cache?: boolean
      output_router_logits?: boolean
      profile?: boolean
    }
    reply: { past_key_values?: number; profile?: Profile }
  }
  /** How a model would be written. `max_shard_bytes` splits it. */
  model_save_plan: {
    request: { model: number; max_shard_bytes?: number; dtype?: Dtype }
    reply: { plan: number; files: { name: string; size: number }[]; index?: string; total_size: number }
  }
  /** Bytes `offset..offset+length` of a planned file, as the uint8 tensor `bytes`. */
  model_save_read: { request: { plan: number; file: number; offset: number; length: number }; reply: object }
  /**
   * Starts a generation. Tensors in: `input_ids` or `encoder_hidden_states`, `attention_mask`, `decoder_input_ids`.
   * `options` are the reference's generation options, complete (defaults already merged by the facade).
   */
  generation_start: {
    request: {
      model: number
      options: Json
      outputs?: string[]
      pause_at_scores?: boolean
      pause_at_candidates?: boolean
      profile?: boolean
    }
    reply: { session: number; rows: number }
  }
  /**
   * Advances up to `max_steps` steps or until `max_ms` have passed since the call. `tokens` are new tokens in order:
   * [row, token] pairs, for strategies that stream; `done` when every row has finished. `stop` ends rows (sequences, for
   * beams: hypotheses) first, with what they have.
   *
   * With `pause_at_scores`, for processors written in JavaScript, a call ends when the processed scores of a step are
   * ready and nothing is chosen from them yet: `paused` says whose they are and `scores` [rows.length, vocab] comes
   * along; the next call brings the changed `scores` back, chooses and returns the tokens; the one after it (which may
   * `stop` rows) goes on to the next pause.
   *
   * With `pause_at_candidates`, for stopping criteria in every strategy, a call ends when continuations are chosen and
   * not settled: `candidates` says whose they are and their ids, the new token included (with beams all that are
   * considered). The next call may name those to stop in `stop_candidates` and returns the settled tokens.
   */
  generation_step: {
    request: { session: number; max_steps: number; max_ms?: number; stop?: number[]; stop_candidates?: number[] }
    reply: {
      tokens: [number, number][]
      /** With `decoder_routes` among the outputs, beside `tokens`: per sparse layer, the expert at the position that chose it. */
      routes?: number[][]
      steps: number
      done: boolean
      paused?: { rows: number[]; input_ids: number[][] }
      candidates?: { rows: number[]; input_ids: number[][] }
    }
  }
  /**
   * The result so far, and frees the session. Tensors: `sequences` (int64), `sequences_scores`, and those of `outputs`:
   * `encoder_last_hidden_state`, `encoder_hidden_states.LAYER`, `encoder_attentions.LAYER`,
   * `encoder_router_logits.LAYER`, `encoder_routes.LAYER`, `decoder_routes.LAYER`; with the options that ask for them,
   * `scores.STEP`, `logits.STEP` and `beam_indices`. Of the decoder, per step and layer: `decoder_hidden_states.STEP.N`
   * [slots, tokens, d_model], `decoder_attentions.STEP.N`, `cross_attentions.STEP.N` [slots, heads, queries, keys] and
   * `decoder_router_logits.STEP.N` [slots, tokens, experts] (slots: rows × beams; zero where a row had finished).
   */
  generation_finish: { request: { session: number }; reply: Json & { profile?: Profile } }
  /**
   * Routing alone: tensor `router_logits` [groups, tokens, experts] and optional `padding_mask` [groups, tokens].
   * Out: `expert` and `slot` (int32, -1: dropped or padding), `weight` (float32).
   */
  route: {
    request: { num_experts: number; expert_capacity: number; policy: RoutingPolicy; ignore_padding_tokens?: boolean }
    reply: object
  }
  /** One generation option applied to `scores` [rows, vocab] given `input_ids`; out: `scores`. */
  process_scores: { request: { option: Json; input_ids: number[][] }; reply: object }
}

export type OperationName = keyof Operations

/** Every operation, once. Both bindings' own types are checked against it. */
export const OPERATIONS = [
  'describe',
  'set_threads',
  'release',
  'checkpoint_open',
  'checkpoint_read',
  'config_resolve',
  'model_load_start',
  'model_load_step',
  'model_init',
  'model_info',
  'model_parameters',
  'model_load_adapter',
  'model_unload_adapter',
  'model_forward',
  'model_save_plan',
  'model_save_read',
  'generation_start',
  'generation_step',
  'generation_finish',
  'route',
  'process_scores',
  'training_start',
  'training_step',
  'training_evaluate',
  'training_update',
  'training_gradients',
  'training_clear_gradients',
  'training_save_plan',
  'training_restore',
  'training_merge_adapters',
] as const satisfies readonly OperationName[]

type Missing = Exclude<OperationName, (typeof OPERATIONS)[number]>
const nothing_missing: [Missing] extends [never] ? true : Missing = true
void nothing_missing

/** What the native addon exports: work happens on its own thread. */
export type NativeBinding = Record<
  OperationName,
  (request: string, tensors: WireTensor[], sources: Source[]) => Promise<Reply>
>

/** What the WASM module exports: synchronous, to be called in a worker. */
export type WasmBinding = Record<OperationName, (request: string, tensors: WireTensor[], sources: Source[]) => Reply>

/** What the facade talks to, whichever binding is behind it. */
export interface Backend {
  readonly name: 'native' | 'wasm'
  /** Why no call can be served any more (its WASM instance trapped, say), or null. Every handle on it is dead then. */
  readonly failure: Error | null
  call<N extends OperationName>(
    name: N,
    request: Operations[N]['request'],
    tensors?: WireTensor[],
    sources?: Source[],
  ): Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }>
  /** Ends the backend's worker, if it has one. Every model on it is gone. */
  terminate(): Promise<void>
}
