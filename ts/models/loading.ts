/** From a repository to a model in a backend: files, headers, weights step by step, with progress and abort between. */

import type { Architecture, Backend, Operations, RoutingPolicy, Source } from '../backend/contract.js'
import { type BackendOptions, select_backend } from '../backend/select.js'
import { SwitchTransformersConfig, type SwitchTransformersConfigValues, to_config } from '../configuration.js'
import { type SwitchTransformersError, throw_if_aborted } from '../errors.js'
import { GenerationConfig } from '../generation/configuration.js'
import {
  open_repository,
  type ProgressEvent,
  type Repository,
  type RepositoryOptions,
  weights_files,
} from '../hub/index.js'
import { optional_json, parse_json } from '../utils/repository.js'
import { check_fits_wasm } from './memory.js'
import { check_option_names, type DtypeName, HUB_OPTIONS, to_dtype } from './options.js'
import { check_routing } from './routing.js'

/** The hub's events, and how much of the weights is in memory. */
export type ModelProgressEvent =
  | ProgressEvent
  /** `progress` in per cent, `loaded` and `total` in bytes of weights. */
  | { status: 'load'; name: string; progress: number; loaded: number; total: number }

export interface ModelOptions extends BackendOptions {
  /**
   * What weights are kept as. `auto`, the default: as the checkpoint stores them. `int8`, `int4` and `mixed` quantise a
   * checkpoint in floating point as it is loaded; norms, routers and position bias stay as they are.
   * Arithmetic is float32. With `bfloat16` by name, inputs of large products may be rounded to 16 bits of significand where
   * the machine has a unit that gains from it (AMX): within 1e-5 of float32 a product, where the reference rounds to 8
   * bits. Router, norms and softmax never are.
   */
  dtype?: DtypeName
  /**
   * Where the experts of a model on a GPU are kept. `auto`, the default: there too. `cpu`: in host memory, where they are
   * computed or from where they are copied as they are chosen, whichever a measurement at load finds faster; for models whose
   * experts do not fit (`OUT_OF_MEMORY` otherwise, with the sizes). On the CPU it changes nothing.
   */
  expert_device?: 'auto' | 'cpu'
  /** How tokens are given to experts. Default `{ type: 'reference' }`. */
  routing?: RoutingPolicy | RoutingPolicy['type']
}

export interface PretrainedOptions extends ModelOptions, Omit<RepositoryOptions, 'progress_callback'> {
  /** Used instead of the repository's `config.json`. */
  config?: SwitchTransformersConfig | SwitchTransformersConfigValues
  /** The middle part of `model.VARIANT.safetensors`. */
  variant?: string
  progress_callback?: (event: ModelProgressEvent) => void
}

/** A model that has just been loaded, before its class is made. */
export interface LoadedModel {
  backend: Backend
  model: number
  config: SwitchTransformersConfig
  generation_config: GenerationConfig
  name_or_path: string
  info: Operations['model_info']['reply']
}

/** Options that are not the repository's. */
const OWN_OPTIONS = [
  'backend',
  'config',
  'device',
  'dtype',
  'expert_device',
  'routing',
  'variant',
] satisfies (keyof PretrainedOptions)[]
const OPTION_NAMES: ReadonlySet<string> = new Set<keyof PretrainedOptions>([...HUB_OPTIONS, ...OWN_OPTIONS])

/** Bytes of weights loaded between two looks at the signal, which may come from a server meanwhile. */
const STEP_BYTES = 4 * 2 ** 20

/** What loading and initialising ask of the engine alike. */
export function engine_options(architecture: Architecture, options: ModelOptions) {
  const routing = check_routing(options.routing)
  return {
    architecture,
    dtype: to_dtype(options.dtype),
    device: options.device === undefined || options.device === 'wasm' ? 'auto' : options.device,
    ...(options.expert_device && { expert_device: options.expert_device }),
    ...(routing !== undefined && { routing }),
  }
}

/** Loads a checkpoint, or an adapter with its base. Whatever goes wrong, nothing stays behind. */
export async function load_model(
  architecture: Architecture,
  name_or_path: string,
  options: PretrainedOptions,
  may_be_adapter = true,
): Promise<LoadedModel> {
  check_option_names('from_pretrained', options, OPTION_NAMES)
  const engine = engine_options(architecture, options)
  const { signal, progress_callback } = options
  throw_if_aborted(signal)
  // First of all: a machine that cannot run the model should not download it.
  const backend = await select_backend(options)
  const repository = await open_repository(name_or_path, hub_options(options))
  try {
    const config = await read_config(repository, options.config)
    if (backend.name === 'wasm') check_fits_wasm(config, options.dtype)
    const generation = await optional_json(repository, 'generation_config.json')
    const weights = await weights_files(repository, options.variant === undefined ? {} : { variant: options.variant })
    await repository.prefetch(weights.files)
    const sources = await Promise.all(weights.files.map((file) => required_source(repository, file)))
    throw_if_aborted(signal)
    const report = (loaded: number, total: number) => {
      const progress = total > 0 ? (loaded / total) * 100 : 100
      repository.loaded?.(progress)
      progress_callback?.({ status: 'load', name: repository.name, progress, loaded, total })
    }
    const model = await load_weights(
      backend,
      sources,
      weights.index,
      { ...engine, config: config.chosen() },
      signal,
      report,
    )
    const { info, config: resolved } = await finish(backend, model, config, signal)
    progress_callback?.({ status: 'ready', task: architecture, model: repository.name })
    const generation_config =
      generation === undefined ? GenerationConfig.from_model_config(resolved) : GenerationConfig.from_dict(generation)
    return { backend, model, config: resolved, generation_config, name_or_path, info }
  } catch (error) {
    // A folder of adapters has no config or no weights.
    if (may_be_adapter && /NOT_FOUND|OFFLINE/.test((error as SwitchTransformersError).code)) {
      const { load_adapted } = await import('./adapters.js')
      const adapted = await load_adapted(repository, architecture, name_or_path, options)
      if (adapted) return adapted
    }
    throw error
  } finally {
    repository.close()
  }
}

function hub_options({ progress_callback, ...options }: PretrainedOptions): RepositoryOptions {
  const hub: Record<string, unknown> = { ...options }
  for (const name of OWN_OPTIONS) delete hub[name]
  return { ...hub, ...(progress_callback && { progress_callback }) } as RepositoryOptions
}

async function read_config(
  repository: Repository,
  given: PretrainedOptions['config'],
): Promise<SwitchTransformersConfig> {
  if (given !== undefined) return to_config(given)
  const bytes = await repository.read('config.json')
  if (bytes === null) throw await repository.absent('config.json')
  return SwitchTransformersConfig.from_dict(parse_json(bytes, 'config.json'))
}

async function required_source(repository: Repository, file: string): Promise<Source> {
  const source = await repository.source(file)
  if (source === null) throw await repository.absent(file)
  return source
}

async function load_weights(
  backend: Backend,
  sources: Source[],
  index: string | undefined,
  request: ReturnType<typeof engine_options> & { config: Record<string, unknown> },
  signal: AbortSignal | undefined,
  report: (loaded: number, total: number) => void,
): Promise<number> {
  const { checkpoint } = (await backend.call('checkpoint_open', index === undefined ? {} : { index }, [], sources))
    .reply
  try {
    throw_if_aborted(signal)
    const { load, total_bytes } = (await backend.call('model_load_start', { checkpoint, ...request })).reply
    try {
      report(0, total_bytes)
      for (;;) {
        throw_if_aborted(signal)
        const { loaded_bytes, model } = (await backend.call('model_load_step', { load, max_bytes: STEP_BYTES })).reply
        if (model !== undefined) {
          try {
            report(loaded_bytes, total_bytes)
          } catch (error) {
            await backend.call('release', { handle: model })
            throw error
          }
          return model
        }
        report(loaded_bytes, total_bytes)
      }
    } catch (error) {
      // The load is gone already where the step that failed took it along.
      await backend.call('release', { handle: load }).catch(() => {})
      throw error
    }
  } finally {
    await backend.call('release', { handle: checkpoint }).catch(() => {})
  }
}

/** The config that the model really has: a checkpoint's tensors may decide where its config.json is silent or wrong. */
async function finish(
  backend: Backend,
  model: number,
  config: SwitchTransformersConfig,
  signal: AbortSignal | undefined,
): Promise<Pick<LoadedModel, 'info' | 'config'>> {
  try {
    throw_if_aborted(signal)
    const { reply: info } = await backend.call('model_info', { model })
    throw_if_aborted(signal)
    return { info, config: resolved_config(config, info) }
  } catch (error) {
    await backend.call('release', { handle: model }).catch(() => {})
    throw error
  }
}

/** A config with what the model decided: what its checkpoint's tensors say, and whether it is quantised. */
export function resolved_config(
  config: SwitchTransformersConfig,
  info: Operations['model_info']['reply'],
): SwitchTransformersConfig {
  return new SwitchTransformersConfig({ ...config.to_dict(), quantization_config: undefined, ...info.config })
}
