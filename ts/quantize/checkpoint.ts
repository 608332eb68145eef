/** From a checkpoint in floating point to a folder with a quantised one. The layout: docs/quantisation.md. */

import type { BackendOptions } from '../backend/select.js'
import { SwitchTransformersConfig } from '../configuration.js'
import { CheckpointError, OptionError, throw_if_aborted } from '../errors.js'
import { open_repository, type RepositoryOptions } from '../hub/index.js'
import { check_option_names } from '../models/options.js'
import { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import { tokenizer_file_bytes } from '../tokenizer/file_names.js'
import { list_files, write_file } from '../utils/files.js'
import { is_record, show } from '../utils/json.js'
import { parse_json } from '../utils/repository.js'

/** `mixed`: feed-forward layers in int4, attention, embedding and head in int8. */
export const QUANTIZED_DTYPES = ['int8', 'int4', 'mixed'] as const
export type QuantizedDtype = (typeof QUANTIZED_DTYPES)[number]

export type QuantizeProgress =
  /** Bytes of the source's weights that are quantised. */
  | { status: 'quantize'; loaded: number; total: number }
  /** Bytes of the quantised weights that are written. */
  | { status: 'write'; file: string; loaded: number; total: number }

export interface QuantizeOptions extends BackendOptions, Omit<RepositoryOptions, 'progress_callback'> {
  dtype: QuantizedDtype
  /** Largest size of one file: bytes, or as "5GB". Default 5 GB. */
  max_shard_size?: number | string
  /** Writes into a folder that is not empty. Default false. */
  force?: boolean
  progress_callback?: (progress: QuantizeProgress) => void
}

export interface QuantizeResult {
  folder: string
  dtype: QuantizedDtype
  parameters: number
  /** Bytes of the source's weights, and of the quantised ones. */
  source_bytes: number
  bytes: number
}

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof QuantizeOptions>([
  'backend',
  'cache_dir',
  'device',
  'dtype',
  'endpoint',
  'fetch',
  'force',
  'force_download',
  'local_files_only',
  'max_retries',
  'max_shard_size',
  'progress_callback',
  'retry_delay_ms',
  'revision',
  'signal',
  'subfolder',
  'timeout_ms',
  'token',
])

/**
 * Quantises the checkpoint in a folder or on the hub into `folder`: weights, both configs and the tokenizer's files.
 *
 * @throws {OptionError} `INVALID_OPTION` for an unknown dtype, and where `folder` holds something and `force` is not set.
 * @throws {CheckpointError} `CHECKPOINT_UNSUPPORTED` where the source is quantised already, `CHECKPOINT_CORRUPT` where it
 * holds an infinity or NaN; and whatever `from_pretrained` and `save_pretrained` throw.
 */
export async function quantize_checkpoint(
  name_or_path: string,
  folder: string,
  options: QuantizeOptions,
): Promise<QuantizeResult> {
  check_option_names('quantize_checkpoint', options, OPTION_NAMES)
  const { dtype, max_shard_size, force = false, progress_callback, signal, ...rest } = options
  if (!QUANTIZED_DTYPES.includes(dtype)) {
    throw new OptionError(
      'INVALID_OPTION',
      `dtype must be one of ${QUANTIZED_DTYPES.join(', ')}, not ${show(dtype)}.`,
      {
        details: { option: 'dtype', value: dtype },
      },
    )
  }
  if (!force && (await list_files(folder)).length > 0) {
    throw new OptionError('INVALID_OPTION', `${folder} is not empty. Name another folder, or set force.`, {
      details: { option: 'force', folder },
    })
  }
  const { backend: _backend, device: _device, ...hub } = rest
  const repository = await open_repository(name_or_path, { ...hub, ...(signal && { signal }) })
  let others: Map<string, Uint8Array>
  try {
    const config = await repository.read('config.json')
    if (config === null) throw await repository.absent('config.json')
    const values = parse_json(config, 'config.json')
    if (is_record(values) && is_record(values.quantization_config)) {
      throw new CheckpointError(
        'CHECKPOINT_UNSUPPORTED',
        `${name_or_path} is quantised already. Quantise the checkpoint that it was made from: a second rounding would add to the first.`,
      )
    }
    SwitchTransformersConfig.from_dict(values)
    others = await tokenizer_file_bytes(repository)
  } finally {
    repository.close()
  }
  throw_if_aborted(signal)
  let source_bytes = 0
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(name_or_path, {
    ...rest,
    ...(signal && { signal }),
    dtype,
    progress_callback: (event) => {
      if (event.status !== 'load') return
      source_bytes = event.total
      progress_callback?.({ status: 'quantize', loaded: event.loaded, total: event.total })
    },
  })
  try {
    await model.save_pretrained(folder, {
      ...(max_shard_size !== undefined && { max_shard_size }),
      ...(signal && { signal }),
      progress_callback: ({ file, written, total }) =>
        progress_callback?.({ status: 'write', file, loaded: written, total }),
    })
    for (const [file, bytes] of others) await write_file(folder, file, once(bytes))
    return { folder, dtype, parameters: model.num_parameters(), source_bytes, bytes: model.weight_bytes }
  } finally {
    await model.dispose()
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
