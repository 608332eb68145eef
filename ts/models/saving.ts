/** Writing a model as sharded safetensors that the reference loads. Node only. */

import { REFERENCE_VERSION, SwitchTransformersConfig } from '../configuration.js'
import { OptionError, throw_if_aborted } from '../errors.js'
import type { GenerationConfig } from '../generation/configuration.js'
import { remove_stale_weights, write_file, write_text_file } from '../utils/files.js'
import { show } from '../utils/json.js'
import type { BackendHandle } from './handle.js'
import { check_option_names, type FloatDtypeName, to_float_dtype } from './options.js'

export interface SaveOptions {
  /** Largest size of one file: bytes, or as "5GB", "200MB", "1GiB". Default 5 GB. */
  max_shard_size?: number | string
  /** What to store weights as. `auto`, the default: as they are kept in memory, quantised ones too. */
  dtype?: FloatDtypeName
  /** Told how many of the bytes of weights are written. */
  progress_callback?: (progress: { file: string; written: number; total: number }) => void
  /** Stops between two parts of a file; files that were finished stay. */
  signal?: AbortSignal
}

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof SaveOptions>([
  'max_shard_size',
  'dtype',
  'progress_callback',
  'signal',
])
const READ_BYTES = 8 * 2 ** 20
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
}

/** Bytes of "5GB" and the like; units as in the reference. */
export function parse_size(value: unknown): number {
  const match = typeof value === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value) : null
  const unit = match === null ? 1 : UNITS[(match[2] as string).toUpperCase()]
  const bytes =
    typeof value === 'number'
      ? value
      : match !== null && unit !== undefined
        ? Math.floor(Number(match[1]) * unit)
        : Number.NaN
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes
  throw new OptionError('INVALID_OPTION', `max_shard_size must be bytes or a size such as "5GB", not ${show(value)}.`, {
    details: { option: 'max_shard_size', value },
  })
}

/** Writes weights, index and both configs into `directory`. */
export async function save_model(
  handle: BackendHandle,
  directory: string,
  config: SwitchTransformersConfig,
  generation_config: GenerationConfig,
  architecture: string,
  options: SaveOptions,
): Promise<void> {
  check_option_names('save_pretrained', options, OPTION_NAMES)
  const { signal, progress_callback } = options
  const max_shard_bytes = parse_size(options.max_shard_size ?? '5GB')
  const dtype = to_float_dtype(options.dtype)
  throw_if_aborted(signal)
  const { plan, files, index } = (await handle.call('model_save_plan', { model: handle.id, max_shard_bytes, dtype }))
    .reply
  let stored: string | undefined
  try {
    let written = 0
    const total = files.reduce((sum, { size }) => sum + size, 0)
    for (const [number, { name, size }] of files.entries()) {
      await write_file(directory, name, parts(number, name, size))
    }
    if (index !== undefined) await write_text_file(directory, 'model.safetensors.index.json', index)
    await remove_stale_weights(directory, [
      ...files.map((file) => file.name),
      ...(index === undefined ? [] : ['model.safetensors.index.json']),
    ])

    async function* parts(file: number, name: string, size: number): AsyncGenerator<Uint8Array> {
      for (let offset = 0; offset < size; offset += READ_BYTES) {
        throw_if_aborted(signal)
        const length = Math.min(READ_BYTES, size - offset)
        const { tensors } = await handle.call('model_save_read', { plan, file, offset, length })
        const bytes = tensors.find((tensor) => tensor.name === 'bytes')?.data ?? new Uint8Array()
        written += bytes.length
        progress_callback?.({ file: name, written, total })
        yield bytes
      }
    }
  } finally {
    await handle.call('release', { handle: plan }).catch(() => {})
  }
  if (dtype !== 'auto') stored = dtype
  const saved = new SwitchTransformersConfig({
    ...config.to_dict(),
    architectures: [architecture],
    // What is stored in floating point is not quantised.
    ...(stored !== undefined && { dtype: stored, quantization_config: undefined }),
    transformers_version: REFERENCE_VERSION,
  })
  await saved.save_pretrained(directory)
  await generation_config.save_pretrained(directory)
}
