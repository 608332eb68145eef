/** What a verification finds, as plain objects that survive JSON. */

import { SwitchTransformersError } from '../../errors.js'

/**
 * - `passed`, `failed`: compared with the reference.
 * - `not_run`: could not be compared because this version cannot run it. Counts against the whole.
 * - `skipped`: left out because the caller asked for it. Does not count.
 */
export type CheckStatus = 'passed' | 'failed' | 'not_run' | 'skipped'

export type CheckKind =
  | 'load'
  | 'weights'
  | 'tensor'
  | 'routing'
  | 'generation'
  | 'tokenization'
  | 'scores'
  | 'gradient'

export interface Check {
  kind: CheckKind
  /** What was compared: a tensor's name in the expected file, a generation's options, a text. */
  name: string
  status: CheckStatus
  /** The measured difference: a relative error for tensors, the largest score difference for generations. */
  error?: number
  /** What `error` may be at most. */
  tolerance?: number
  /** What differed and where, or why it was not run. */
  detail?: string
}

/** The kinds of paths that can be verified. */
export type Form = 'case' | 'routing' | 'tokenizer' | 'processors'

export interface PathReport {
  path: string
  form: Form
  passed: boolean
  checks: Check[]
}

export interface VerifyReport {
  passed: boolean
  backend: string
  dtype: string
  tolerance: number
  paths: PathReport[]
}

export interface Counts {
  passed: number
  failed: number
  not_run: number
  skipped: number
}

export function count_checks(checks: readonly Check[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, not_run: 0, skipped: 0 }
  for (const check of checks) counts[check.status] += 1
  return counts
}

/** Whether everything that had to be compared was, and agreed. A path on which nothing was compared has not passed. */
export function all_passed(checks: readonly Check[]): boolean {
  const { passed, failed, not_run } = count_checks(checks)
  return failed === 0 && not_run === 0 && passed > 0
}

/** A finished check: `passed` when `error` is within `tolerance` and nothing else was wrong. */
export function measured(kind: CheckKind, name: string, error: number, tolerance: number, detail?: string): Check {
  const status = detail === undefined && error <= tolerance ? 'passed' : 'failed'
  return { kind, name, status, error, tolerance, ...(detail !== undefined && { detail }) }
}

export function failed(kind: CheckKind, name: string, detail: string): Check {
  return { kind, name, status: 'failed', detail }
}

export function passed(kind: CheckKind, name: string): Check {
  return { kind, name, status: 'passed' }
}

/** A failure of the library in words. An abort is no finding, nor is a bug of the verification itself: both are thrown on. */
export function describe_failure(error: unknown): string {
  if (error instanceof SwitchTransformersError && error.code !== 'ABORTED') return `[${error.code}] ${error.message}`
  throw error
}
