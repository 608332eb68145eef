/** What is in a checkpoint, from its headers alone. */

import type { TensorEntry } from '../backend/contract.js'
import { type BackendOptions, select_backend } from '../backend/select.js'
import { open_repository, type Repository, type RepositoryOptions, weights_files } from '../hub/index.js'
import { is_record } from '../utils/json.js'
import { optional_json } from '../utils/repository.js'
import { open_checkpoint } from './checkpoint.js'
import { type ParameterSummary, summarize_parameters } from './parameters.js'

export interface InspectOptions extends RepositoryOptions, BackendOptions {
  /** One file of the repository, instead of all that `from_pretrained` would load. */
  file?: string
  /** The middle part of `model.VARIANT.safetensors`. */
  variant?: string
}

export interface DtypeSummary {
  tensors: number
  /** Elements, stored copies of tied embeddings included. */
  elements: number
  bytes: number
}

export interface CheckpointSummary extends ParameterSummary {
  name: string
  /** The commit, for a hub repository. */
  commit?: string
  /** What config.json says, defaults filled in; undefined where there is none. */
  config?: Record<string, unknown>
  /** What is wrong with the config. */
  faults: { field: string; message: string }[]
  files: { name: string; size: number }[]
  /** Size of the files together. */
  bytes: number
  /** By the name that the files give it. */
  dtypes: Record<string, DtypeSummary>
  metadata: Record<string, string>
  tensors: TensorEntry[]
}

/**
 * Describes a checkpoint: layers, experts, parameters, dtypes and files. Weights are not loaded, though a repository of
 * the hub is downloaded.
 *
 * @param name_or_path A folder or a repository's name, as `from_pretrained` takes it.
 * @throws {SwitchTransformersError} FILE_NOT_FOUND or HUB_* where there is no checkpoint, CHECKPOINT_* where it cannot be
 * read.
 */
export async function inspect_checkpoint(
  name_or_path: string,
  options: InspectOptions = {},
): Promise<CheckpointSummary> {
  const { backend: backend_name, device, file, variant, ...repository_options } = options
  const backend = await select_backend({ ...(backend_name && { backend: backend_name }), ...(device && { device }) })
  const repository = await open_repository(name_or_path, repository_options)
  try {
    const { files: names, index } =
      file === undefined
        ? await weights_files(repository, variant === undefined ? {} : { variant })
        : { files: [file], index: undefined }
    await repository.prefetch(names)
    const raw_config = await config_of(repository)
    const resolved = raw_config && (await backend.call('config_resolve', { config: raw_config })).reply
    const checkpoint = await open_checkpoint(backend, repository, names, index)
    try {
      const tied = raw_config?.tie_word_embeddings
      return {
        name: name_or_path,
        ...(repository.commit !== undefined && { commit: repository.commit }),
        ...(resolved && { config: resolved.config }),
        faults: resolved?.faults ?? [],
        ...summarize_parameters(checkpoint.tensors, typeof tied === 'boolean' ? tied : undefined),
        files: checkpoint.files,
        bytes: checkpoint.files.reduce((sum, { size }) => sum + size, 0),
        dtypes: summarize_dtypes(checkpoint.tensors),
        metadata: checkpoint.metadata,
        tensors: checkpoint.tensors,
      }
    } finally {
      await checkpoint.close()
    }
  } finally {
    repository.close()
  }
}

async function config_of(repository: Repository): Promise<Record<string, unknown> | undefined> {
  const json = await optional_json(repository, 'config.json')
  return is_record(json) ? json : undefined
}

function summarize_dtypes(tensors: readonly TensorEntry[]): Record<string, DtypeSummary> {
  const dtypes: Record<string, DtypeSummary> = {}
  for (const { dtype, shape, bytes } of tensors) {
    dtypes[dtype] ??= { tensors: 0, elements: 0, bytes: 0 }
    const summary = dtypes[dtype]
    summary.tensors += 1
    summary.elements += shape.reduce((product, length) => product * length, 1)
    summary.bytes += bytes
  }
  return dtypes
}
