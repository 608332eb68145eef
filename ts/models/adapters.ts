/** LoRA adapters on a model that is loaded, and folders of adapters that name their base. */

import type { Architecture, Backend, Source } from '../backend/contract.js'
import { CheckpointError, error_for_code, SwitchTransformersError, throw_if_aborted } from '../errors.js'
import { open_repository, type Repository, type RepositoryOptions, required_file } from '../hub/index.js'
import { optional_json, parse_json } from '../utils/repository.js'
import { ADAPTER_CONFIG, type AdapterConfig, parse_adapter_config } from './adapter_config.js'
import { refresh_info } from './info.js'
import { type LoadedModel, load_model, type PretrainedOptions, resolved_config } from './loading.js'
import { check_option_names, HUB_OPTIONS } from './options.js'
import type { PreTrainedModel } from './pretrained_model.js'

export type AdapterOptions = RepositoryOptions

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof AdapterOptions>(HUB_OPTIONS)
const WEIGHTS = ['adapter_model.safetensors', 'adapter_model.bin']

export async function load_adapter(
  model: PreTrainedModel<never, unknown>,
  name_or_path: string,
  options: AdapterOptions,
): Promise<void> {
  check_option_names('load_adapter', options, OPTION_NAMES)
  throw_if_aborted(options.signal)
  const { backend, id } = model.handle
  const repository = await open_repository(name_or_path, options)
  try {
    const config = parse_adapter_config(parse_json(await required_file(repository, ADAPTER_CONFIG), ADAPTER_CONFIG))
    await add_adapter(backend, id, repository, config, options.signal)
  } finally {
    repository.close()
  }
  await refresh_info(model)
}

export async function unload_adapter(model: PreTrainedModel<never, unknown>, merge: boolean): Promise<void> {
  await model.handle.call('model_unload_adapter', { model: model.handle.id, merge })
  if (merge) changed.add(model)
  await refresh_info(model)
}

/** Models whose weights are not those of the folder that they were loaded from. */
const changed = new WeakSet<object>()

/** The name that an adapter of a model gives its base; null where the weights are no longer those of that name. */
export function base_name(model: Pick<PreTrainedModel, 'name_or_path'>): string | null {
  return changed.has(model) || model.name_or_path === '' ? null : model.name_or_path
}

/** A training of all weights has begun. */
export function mark_changed(model: object): void {
  changed.add(model)
}

/**
 * A repository of adapters alone, with the base that its config names; null where it is none.
 *
 * @throws {CheckpointError} `CHECKPOINT_UNSUPPORTED` where it names no base; what loading the base throws, saying for whom.
 */
export async function load_adapted(
  repository: Repository,
  architecture: Architecture,
  name_or_path: string,
  options: PretrainedOptions,
): Promise<LoadedModel | null> {
  const values = await optional_json(repository, ADAPTER_CONFIG)
  if (values === undefined) return null
  const config = parse_adapter_config(values)
  if (config.base === null) {
    throw new CheckpointError(
      'CHECKPOINT_UNSUPPORTED',
      `${name_or_path} holds adapters, and its ${ADAPTER_CONFIG} names no base. Load the model that they were trained on, and call its load_adapter.`,
    )
  }
  const { revision: _, subfolder: __, ...rest } = options
  const base_options = { ...rest, ...(config.revision !== null && { revision: config.revision }) }
  const loaded = await load_model(architecture, config.base, base_options, false).catch((error: unknown) => {
    if (!(error instanceof SwitchTransformersError) || error.code === 'ABORTED') throw error
    throw error_for_code(
      error.code,
      `${name_or_path} holds adapters of ${config.base}, which cannot be loaded: ${error.message} Load the base from where it is, and call its load_adapter.`,
      { cause: error, details: { ...(error.details as object | undefined), base: config.base } },
    )
  })
  const { backend, model } = loaded
  try {
    await add_adapter(backend, model, repository, config, options.signal)
    const { reply: info } = await backend.call('model_info', { model })
    return { ...loaded, info, config: resolved_config(loaded.config, info), name_or_path }
  } catch (error) {
    await backend.call('release', { handle: model }).catch(() => {})
    throw error
  }
}

async function add_adapter(
  backend: Backend,
  model: number,
  repository: Repository,
  { rank, alpha, alpha_pattern, rank_stabilised }: AdapterConfig,
  signal: AbortSignal | undefined,
): Promise<void> {
  const source = await weights_of(repository)
  throw_if_aborted(signal)
  const { checkpoint } = (await backend.call('checkpoint_open', {}, [], [source])).reply
  try {
    throw_if_aborted(signal)
    const options = { rank, alpha, alpha_pattern, rank_stabilised }
    await backend.call('model_load_adapter', { model, checkpoint, options })
  } finally {
    await backend.call('release', { handle: checkpoint }).catch(() => {})
  }
}

async function weights_of(repository: Repository): Promise<Source> {
  for (const file of WEIGHTS) {
    const source = await repository.source(file)
    if (source !== null) return source
  }
  throw await repository.absent(WEIGHTS[0] as string)
}
