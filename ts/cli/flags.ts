/** Flags that several commands share, and the values that flags take. */

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { BackendOptions } from '../entry/node.js'

export interface BackendFlags {
  backend?: 'native' | 'wasm' | 'auto'
  device?: string
}

export const FLOAT_DTYPES = ['auto', 'float32', 'bfloat16', 'float16'] as const
export const QUANTISED_DTYPES = ['int8', 'int4', 'mixed'] as const
export const DTYPES = [...FLOAT_DTYPES, ...QUANTISED_DTYPES] as const

export function add_backend_flags(command: Command): Command {
  return command
    .addOption(
      new Option('--backend <name>', 'native addon or WASM module (default: auto)').choices(['native', 'wasm', 'auto']),
    )
    .addOption(new Option('--device <name>', 'where to compute: auto, cpu, cuda or wasm (default: auto)'))
}

/** Given flags alone, so that defaults and SWITCH_BACKEND hold where there are none. */
export function backend_options(flags: BackendFlags): BackendOptions {
  return {
    ...(flags.backend !== undefined && { backend: flags.backend }),
    ...(flags.device !== undefined && { device: flags.device as NonNullable<BackendOptions['device']> }),
  }
}

export function dtype_flag(fallback?: string, choices: readonly string[] = FLOAT_DTYPES): Option {
  const option = new Option('--dtype <name>', 'what weights are kept as').choices(choices)
  return fallback === undefined ? option : option.default(fallback)
}

export function hub_flags(command: Command): Command {
  return command
    .option('--revision <name>', 'branch, tag or commit of a hub repository')
    .option('--cache-dir <folder>', 'where downloads are kept')
    .option('--local-files-only', 'download nothing')
}

export interface HubFlags {
  revision?: string
  cacheDir?: string
  localFilesOnly?: boolean
}

export function hub_options(flags: HubFlags) {
  return {
    ...(flags.revision !== undefined && { revision: flags.revision }),
    ...(flags.cacheDir !== undefined && { cache_dir: flags.cacheDir }),
    ...(flags.localFilesOnly && { local_files_only: true }),
  }
}

export function integer_value(text: string): number {
  const value = Number(text)
  if (!/^[+-]?\d+$/.test(text.trim()) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('It must be an integer.')
  return value
}

export function number_value(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.')
  return value
}

/** `key=json`, collected: `--option top_k=5 --option bad_words_ids=[[5]]`. A value that is no JSON is a string. */
export function key_value(text: string, collected: Record<string, unknown> = {}): Record<string, unknown> {
  const at = text.indexOf('=')
  const key = text.slice(0, at).trim()
  if (at < 1 || !/^[a-z]\w*$/i.test(key)) throw new InvalidArgumentError('It must be name=value.')
  return { ...collected, [key]: json_or_text(text.slice(at + 1)) }
}

function json_or_text(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
