/** From a base and its LoRA adapters to the folder of a model that needs no adapter. */

import type { BackendOptions } from '../backend/select.js'
import { OptionError, throw_if_aborted } from '../errors.js'
import { open_repository, type RepositoryOptions } from '../hub/index.js'
import { check_option_names, type FloatDtypeName, HUB_OPTIONS } from '../models/options.js'
import { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import { tokenizer_file_bytes } from '../tokenizer/file_names.js'
import { list_files, write_file } from '../utils/files.js'

/** Where files come from holds for the base and the adapter; `revision` and `subfolder` are the base's. */
export interface MergeOptions extends BackendOptions, Omit<RepositoryOptions, 'progress_callback'> {
  /**
   * What weights are stored as. Default float32, in which the outputs are those of base and adapter; in half precision the
   * sums are rounded.
   */
  dtype?: FloatDtypeName
  /** Largest size of one file: bytes, or as "5GB". Default 5 GB. */
  max_shard_size?: number | string
  /** Writes into a folder that is not empty. Default false. */
  force?: boolean
  progress_callback?: (progress: { status: 'load' | 'write'; loaded: number; total: number }) => void
}

export interface MergeResult {
  folder: string
  parameters: number
  /** Bytes of the weights in memory. */
  bytes: number
}

const OPTION_NAMES: ReadonlySet<string> = new Set([
  ...HUB_OPTIONS,
  'backend',
  'device',
  'dtype',
  'force',
  'max_shard_size',
])

/**
 * Writes the model that `base` is with `adapter`: weights, configs and the tokenizer (the adapter's, or else the base's).
 *
 * @throws {OptionError} `INVALID_OPTION` where `folder` holds something and `force` is not set; {CheckpointError}
 * `CHECKPOINT_MISMATCH` for an adapter of another base; whatever `from_pretrained`, `load_adapter` and `save_pretrained`
 * throw.
 */
export async function merge_adapter(
  base: string,
  adapter: string,
  folder: string,
  options: MergeOptions = {},
): Promise<MergeResult> {
  check_option_names('merge_adapter', options, OPTION_NAMES)
  const { dtype = 'float32', max_shard_size, force = false, progress_callback, backend, device, ...hub } = options
  if (!force && (await list_files(folder)).length > 0) {
    throw new OptionError('INVALID_OPTION', `${folder} is not empty. Name another folder, or set force.`, {
      details: { option: 'force', folder },
    })
  }
  const { signal } = hub
  const { revision: _, subfolder: __, ...of_adapter } = hub
  const tokenizer = await tokenizer_of(adapter, of_adapter, base, hub)
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(base, {
    ...hub,
    ...(backend !== undefined && { backend }),
    ...(device !== undefined && { device }),
    progress_callback: (event) => {
      if (event.status === 'load') progress_callback?.({ status: 'load', loaded: event.loaded, total: event.total })
    },
  })
  try {
    await model.load_adapter(adapter, of_adapter)
    await model.merge_adapters()
    throw_if_aborted(signal)
    await model.save_pretrained(folder, {
      dtype,
      ...(max_shard_size !== undefined && { max_shard_size }),
      ...(signal && { signal }),
      progress_callback: ({ written, total }) => progress_callback?.({ status: 'write', loaded: written, total }),
    })
    for (const [file, bytes] of tokenizer) await write_file(folder, file, once(bytes))
    return { folder, parameters: model.num_parameters(), bytes: model.weight_bytes }
  } finally {
    await model.dispose()
  }
}

async function tokenizer_of(
  adapter: string,
  of_adapter: RepositoryOptions,
  base: string,
  of_base: RepositoryOptions,
): Promise<Map<string, Uint8Array>> {
  for (const [name, options] of [
    [adapter, of_adapter],
    [base, of_base],
  ] as const) {
    const repository = await open_repository(name, options)
    try {
      const files = await tokenizer_file_bytes(repository)
      if (files.has('tokenizer.json') || files.has('spiece.model')) return files
    } finally {
      repository.close()
    }
  }
  return new Map()
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
