/** Which files of a repository hold the weights. */

import { CheckpointError, OptionError } from '../errors.js'
import { is_file_name, quote } from './names.js'
import type { Repository } from './types.js'

export interface WeightsOptions {
  /** The middle part of `model.VARIANT.safetensors`. Default: none. */
  variant?: string
}

export interface WeightsFiles {
  /** One file, or all shards, sorted. */
  files: string[]
  /** The text of `*.index.json`, for shards. */
  index?: string
}

/** In the order of preference of `transformers`. */
const WHOLE_OR_SHARDS = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
]

/**
 * The weights that `transformers` would load. Nothing but an index is downloaded.
 *
 * Throws FILE_NOT_FOUND, HUB_NOT_FOUND or HUB_OFFLINE where there are none or a shard is missing, CHECKPOINT_CORRUPT for
 * an index that is not one, and INVALID_OPTION for an impossible variant.
 */
export async function weights_files(repository: Repository, options: WeightsOptions = {}): Promise<WeightsFiles> {
  const { variant } = options
  if (variant !== undefined && !/^[\w-]+(?:\.[\w-]+)*$/.test(variant)) {
    throw new OptionError(
      'INVALID_OPTION',
      `variant is a word in a file name, such as "fp16"; got ${quote(String(variant))}.`,
    )
  }
  const candidates = WHOLE_OR_SHARDS.map((name) => with_variant(name, variant))
  const found = await first_of(repository, candidates)
  if (found === undefined) throw await repository.absent(candidates[0] as string)
  if (!found.endsWith('.json')) return { files: [found] }

  const bytes = await repository.read(found)
  if (bytes === null) throw await repository.absent(found)
  const index = decode(bytes, found)
  const files = shard_names(index, found)
  const present = await Promise.all(files.map((file) => repository.has(file)))
  const missing = files.find((_, i) => !present[i])
  if (missing !== undefined) throw await repository.absent(missing)
  return { files, index }
}

async function first_of(repository: Repository, names: string[]): Promise<string | undefined> {
  for (const name of names) if (await repository.has(name)) return name
  return undefined
}

function with_variant(name: string, variant: string | undefined): string {
  if (variant === undefined) return name
  const dot = name.lastIndexOf('.')
  return `${name.slice(0, dot)}.${variant}${name.slice(dot)}`
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CheckpointError('CHECKPOINT_CORRUPT', `${file} is not UTF-8 text. Download it again.`, { cause })
  }
}

function shard_names(index: string, file: string): string[] {
  const corrupt = (what: string, cause?: unknown) =>
    new CheckpointError('CHECKPOINT_CORRUPT', `${file} is not an index of shards: ${what}.`, { cause })
  let parsed: unknown
  try {
    parsed = JSON.parse(index)
  } catch (cause) {
    throw corrupt('it is not JSON', cause)
  }
  const map = (parsed as { weight_map?: unknown } | null)?.weight_map
  if (typeof map !== 'object' || map === null || Array.isArray(map)) throw corrupt('"weight_map" is missing')
  const names = new Set<string>()
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== 'string') throw corrupt(`the shard of ${quote(tensor)} is not a name`)
    if (!is_file_name(shard))
      throw corrupt(`${quote(shard)}, the shard of ${quote(tensor)}, is not a name inside the folder`)
    names.add(shard)
  }
  if (names.size === 0) throw corrupt('"weight_map" is empty')
  return [...names].sort()
}
