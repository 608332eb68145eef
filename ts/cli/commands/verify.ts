/** `switch-transformers verify`: compares with recorded results of the reference. */

import type { Command } from 'commander'
import { type Check, count_checks, type PathReport, type VerifyReport, verify } from '../../inspect/verify/index.js'
import { EXIT } from '../exit.js'
import { add_backend_flags, type BackendFlags, backend_options, dtype_flag, number_value } from '../flags.js'
import { printable, show_error, table } from '../format.js'
import type { Terminal } from '../terminal.js'

interface VerifyFlags extends BackendFlags {
  tolerance?: number
  dtype: 'auto' | 'float32' | 'bfloat16' | 'float16'
  greedyOnly?: boolean
  grads?: boolean
  json?: boolean
}

export function add_verify(program: Command, terminal: Terminal, finish: (exit_code: number) => void): void {
  const command = program
    .command('verify')
    .description('compare with what the reference computed: case folders, routing, tokenizer and processor files')
    .argument('<paths...>', 'case folders, folders of them, or JSON files of expected values')
    .option('--tolerance <number>', 'largest relative error (default: 1e-5 in float32, 2e-3 otherwise)', number_value)
    .addOption(dtype_flag('float32'))
    .option('--greedy-only', 'list generations that are not plain greedy as not run, without failing')
    .option('--grads', 'compare gradients too')
    .option('--json', 'print the report as JSON')
  add_backend_flags(command).action(async (paths: string[], flags: VerifyFlags) => {
    const progress = terminal.progress('verify')
    let report: VerifyReport
    try {
      report = await verify(paths, {
        ...backend_options(flags),
        dtype: flags.dtype,
        greedy_only: flags.greedyOnly === true,
        grads: flags.grads === true,
        signal: terminal.signal,
        ...(flags.tolerance !== undefined && { tolerance: flags.tolerance }),
        on_progress: ({ path, index, total, step }) =>
          progress.update(index, total, `${path}${step ? `: ${step}` : ''}`),
        on_report: (path_report) => {
          progress.stop()
          if (!flags.json) terminal.print(format_path(path_report))
        },
      })
    } finally {
      progress.stop()
    }
    terminal.print(flags.json ? `${to_json(report)}\n` : format_summary(report))
    finish(report.passed ? EXIT.ok : EXIT.verification_failed)
  })
}

const MARKS: Record<Check['status'], string> = {
  passed: 'ok',
  failed: 'FAILED',
  not_run: 'not run',
  skipped: 'not run',
}

export function format_path(report: PathReport): string {
  const rows = report.checks.map((check) => [
    MARKS[check.status],
    check.kind,
    check.error === undefined ? '' : show_error(check.error),
    printable(check.detail === undefined ? check.name : `${check.name}: ${check.detail}`),
  ])
  return `${report.path}\n${table(rows, '  ')}\n`
}

export function format_summary(report: VerifyReport): string {
  const rows = report.paths.map((path) => {
    const { passed, failed, not_run, skipped } = count_checks(path.checks)
    const compared = passed + failed
    const left_out = not_run + skipped
    const worst = Math.max(0, ...path.checks.map((check) => (check.kind === 'tensor' ? (check.error ?? 0) : 0)))
    return [
      path.passed ? 'passed' : 'FAILED',
      path.path,
      `${passed} of ${compared}${left_out > 0 ? `, ${left_out} not run` : ''}`,
      path.form === 'case' ? `largest error ${show_error(worst)}` : '',
    ]
  })
  const good = report.paths.filter((path) => path.passed).length
  const setting = `${report.backend}, ${report.dtype}, tolerance ${report.tolerance}`
  return `${table(rows)}${good} of ${report.paths.length} passed (${setting})\n`
}

/** JSON has no infinity: such an error becomes a string. */
function to_json(report: VerifyReport): string {
  return JSON.stringify(
    report,
    (_key, value) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value),
    2,
  )
}
