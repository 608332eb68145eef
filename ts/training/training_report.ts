/** `training_report`, whose page carries a plotting library and is loaded when it is asked for. */

import type { LogEntry } from './state.js'

export interface TrainingReportOptions {
  /** Default "Training". */
  title?: string
  /** Shown below the curves. */
  args?: Readonly<Record<string, unknown>>
}

/**
 * The report of a training as one HTML page that loads nothing: losses, learning rate, gradient norm, metrics, and the load
 * of every expert over time.
 *
 * @param log The text of a `log.jsonl`, or its entries. Lines that are no entries are left out.
 */
export async function training_report(
  log: string | readonly LogEntry[],
  options: TrainingReportOptions = {},
): Promise<string> {
  const [{ make_report }, { parse_log }] = await Promise.all([import('./report/report.js'), import('./log.js')])
  return make_report(typeof log === 'string' ? parse_log(log) : log, options)
}
