/** Files of fixed scores with what each generation option makes of them. */

import type { Backend } from '../../backend/contract.js'
import { unwire_all, wire } from '../../backend/wire.js'
import { InputError, SwitchTransformersError } from '../../errors.js'
import { is_record, show } from '../../utils/json.js'
import { largest_error } from '../compare.js'
import { type Check, describe_failure, failed, measured } from './report.js'
import { generation_name } from './sequences.js'
import { flatten, list_of } from './values.js'

const REPLACEMENTS: Record<string, number> = {
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
  '-inf': Number.NEGATIVE_INFINITY,
}

/** One check per option: all scores within `tolerance`, and minus infinity exactly where expected. */
export async function verify_processors(
  json: Record<string, unknown>,
  file: string,
  backend: Backend,
  tolerance: number,
): Promise<Check[]> {
  const scores = flatten(json.scores, 2, `"scores" of ${file}`)
  const checks: Check[] = []
  for (const [i, entry] of list_of(json, 'cases', file).entries()) {
    const what = `case ${i} of ${file}`
    const { option, input_ids, output } = is_record(entry) ? entry : {}
    if (!is_record(option)) throw new InputError(`"option" of ${what} must be an object, not ${show(option)}.`)
    const rows = rows_of_ids(input_ids, what)
    const expected = flatten(output, 2, `"output" of ${what}`)
    const { input_overrides, ...rest } = option
    const data = Float32Array.from(scores.data)
    replace_scores(data, scores.dims[1] ?? 0, input_overrides, what)

    const name = generation_name(rest)
    try {
      const tensors = [wire('scores', data, scores.dims)]
      const reply = await backend.call('process_scores', { option: rest, input_ids: rows }, tensors)
      const actual = unwire_all(reply.tensors).get('scores')
      if (actual === undefined) checks.push(failed('scores', name, 'no scores were returned'))
      else checks.push(measured('scores', name, largest_error(actual.data as Float32Array, expected.data), tolerance))
    } catch (error) {
      const unsupported = error instanceof SwitchTransformersError && error.code === 'UNSUPPORTED_OPTION'
      checks.push({ kind: 'scores', name, status: unsupported ? 'not_run' : 'failed', detail: describe_failure(error) })
    }
  }
  return checks
}

function rows_of_ids(value: unknown, what: string): number[][] {
  const rows = Array.isArray(value) ? value : []
  const valid = rows.every((row) => Array.isArray(row) && row.every((id) => Number.isSafeInteger(id)))
  if (rows.length === 0 || !valid) throw new InputError(`"input_ids" of ${what} must be rows of ids.`)
  return rows
}

/** Values that JSON cannot express come as [row, column, name]. */
function replace_scores(data: Float32Array, width: number, overrides: unknown, what: string): void {
  if (overrides === undefined) return
  if (!Array.isArray(overrides)) throw new InputError(`"input_overrides" of ${what} must be a list.`)
  for (const override of overrides) {
    const [row, column, name] = Array.isArray(override) ? override : []
    const value = REPLACEMENTS[String(name)]
    const at = Number(row) * width + Number(column)
    if (value === undefined || !(column < width) || !(at >= 0 && at < data.length)) {
      throw new InputError(
        `"input_overrides" of ${what} holds ${show(override)}; expected [row, column, "nan" | "inf" | "-inf"].`,
      )
    }
    data[at] = value
  }
}
