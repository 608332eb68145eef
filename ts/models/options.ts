/** What the options of loading, initialising and saving have in common. */

import type { Dtype, FloatDtype } from '../backend/contract.js'
import { OptionError } from '../errors.js'
import { has_own, show } from '../utils/json.js'
import type { RepositoryOptions } from '../utils/repository.js'

/** The options that say where a model's files are and how they are fetched. */
export const HUB_OPTIONS = [
  'cache_dir',
  'endpoint',
  'fetch',
  'force_download',
  'local_files_only',
  'max_retries',
  'progress_callback',
  'retry_delay_ms',
  'revision',
  'signal',
  'subfolder',
  'timeout_ms',
  'token',
] as const satisfies readonly (keyof RepositoryOptions)[]

/** Names of element types: the reference's, and those of transformers.js for the same. */
export type DtypeName = Dtype | 'fp32' | 'bf16' | 'fp16'

/** Those of floating-point numbers. */
export type FloatDtypeName = Exclude<DtypeName, 'int8' | 'int4' | 'mixed'>

const DTYPES: Readonly<Record<string, Dtype>> = {
  auto: 'auto',
  float32: 'float32',
  bfloat16: 'bfloat16',
  float16: 'float16',
  fp32: 'float32',
  bf16: 'bfloat16',
  fp16: 'float16',
  int8: 'int8',
  int4: 'int4',
  mixed: 'mixed',
}

/** Refuses options by name, so that none is ignored. */
export function check_option_names(call: string, options: object, known: ReadonlySet<string>): void {
  const unknown = Object.entries(options).flatMap(([name, value]) =>
    known.has(name) || value === undefined ? [] : [name],
  )
  if (unknown.length === 0) return
  throw new OptionError(
    'UNSUPPORTED_OPTION',
    `${call} has no option ${unknown.join(', ')}. It takes ${[...known].join(', ')}.`,
    {
      details: { options: unknown },
    },
  )
}

export function to_dtype(value: unknown): Dtype {
  if (value === undefined || value === null) return 'auto'
  const dtype = typeof value === 'string' && has_own(DTYPES, value) ? DTYPES[value] : undefined
  if (dtype !== undefined) return dtype
  const code = typeof value === 'string' ? 'UNSUPPORTED_OPTION' : 'INVALID_OPTION'
  throw new OptionError(code, `dtype ${show(value)} is not supported; use ${Object.keys(DTYPES).join(', ')}.`, {
    details: { option: 'dtype', value },
  })
}

/** For saving, which quantises nothing: that is decided at loading. */
export function to_float_dtype(value: unknown): FloatDtype {
  const dtype = to_dtype(value)
  if (dtype !== 'int8' && dtype !== 'int4' && dtype !== 'mixed') return dtype
  throw new OptionError(
    'UNSUPPORTED_OPTION',
    `save_pretrained does not quantise; load the model with dtype: '${dtype}' and save it, or use quantize_checkpoint.`,
    { details: { option: 'dtype', value } },
  )
}
