/** Compares this library with recorded results of the reference. Node only. */

import path from 'node:path'
import type { Backend } from '../../backend/contract.js'
import { type BackendOptions, select_backend } from '../../backend/select.js'
import { OptionError, throw_if_aborted } from '../../errors.js'
import { show } from '../../utils/json.js'
import { type CaseOptions, verify_case } from './case.js'
import { load_case_tokenizer } from './case_tokenizer.js'
import { verify_processors } from './processors.js'
import { all_passed, type Check, describe_failure, failed, type PathReport, type VerifyReport } from './report.js'
import { verify_routing } from './routing.js'
import { find_targets, type Target } from './targets.js'
import { verify_tokenizer } from './tokenizer.js'

export { all_passed, type Check, count_checks, type PathReport, type VerifyReport } from './report.js'

export interface VerifyOptions extends BackendOptions {
  /** What weights are kept as. Default float32. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float16'
  /** Largest relative error ‖x−ref‖/‖ref‖. Default 1e-5 in float32, 2e-3 otherwise. */
  tolerance?: number
  /** Leave out generations that are not plain greedy, without counting them. */
  greedy_only?: boolean
  /** Compare gradients too, where a case has `grads.safetensors`: each parameter's within 1e-4, or `tolerance` if it is larger. */
  grads?: boolean
  signal?: AbortSignal
  /** Called before each part of the work. */
  on_progress?: (progress: { path: string; index: number; total: number; step?: string }) => void
  /** Called with each path's report as soon as it is complete. */
  on_report?: (report: PathReport) => void
}

/**
 * Verifies case folders, folders of them, and files of expected values.
 *
 * @throws {SwitchTransformersError} FILE_NOT_FOUND, INVALID_INPUT, INVALID_OPTION or BACKEND_UNAVAILABLE before anything
 * runs, and ABORTED. Everything else that goes wrong is in the report.
 */
export async function verify(paths: readonly string[], options: VerifyOptions = {}): Promise<VerifyReport> {
  const { dtype = 'float32', greedy_only = false, signal, on_progress, on_report } = options
  const tolerance = options.tolerance ?? (dtype === 'float32' ? 1e-5 : 2e-3)
  if (!(typeof tolerance === 'number' && tolerance >= 0)) {
    throw new OptionError('INVALID_OPTION', `tolerance must be a number of at least 0, not ${show(tolerance)}.`, {
      details: { option: 'tolerance' },
    })
  }
  const targets = await find_targets(paths)
  const { backend: name, device } = options
  // Asked anew for each path: a backend that died on one is replaced for the next.
  const start = () => select_backend({ ...(name && { backend: name }), ...(device && { device }) })
  let backend = await start()
  const reports: PathReport[] = []
  for (const [index, target] of targets.entries()) {
    throw_if_aborted(signal)
    backend = await start()
    const progress = { path: target.path, index, total: targets.length }
    on_progress?.(progress)
    const on_step = (step: string) => on_progress?.({ ...progress, step })
    const case_options = {
      backend,
      dtype,
      tolerance,
      greedy_only,
      grads: options.grads === true,
      on_step,
      ...(signal && { signal }),
    }
    const checks = await run_checks(target, case_options)
    const report: PathReport = { path: target.path, form: target.form, passed: all_passed(checks), checks }
    reports.push(report)
    on_report?.(report)
  }
  return { passed: reports.every((report) => report.passed), backend: backend.name, dtype, tolerance, paths: reports }
}

/** What cannot even be read is a failed check too, so that the other paths are still verified. */
async function run_checks(target: Target, options: CaseOptions): Promise<Check[]> {
  try {
    if (target.form === 'case') return await verify_case(target.path, options)
    return await verify_file(target, options.backend, options.tolerance)
  } catch (error) {
    return [failed('load', path.basename(target.path), describe_failure(error))]
  }
}

async function verify_file(
  target: Exclude<Target, { form: 'case' }>,
  backend: Backend,
  tolerance: number,
): Promise<Check[]> {
  switch (target.form) {
    case 'routing':
      return verify_routing(target.json, target.path, backend, tolerance)
    case 'processors':
      return verify_processors(target.json, target.path, backend, tolerance)
    case 'tokenizer':
      return verify_tokenizer(target.json, target.path, await load_case_tokenizer(path.dirname(target.path)))
  }
}
