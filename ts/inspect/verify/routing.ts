/** Files of router logits with the decisions that the original implementation takes on them. */

import type { Backend } from '../../backend/contract.js'
import { unwire_all, wire } from '../../backend/wire.js'
import { InputError } from '../../errors.js'
import { is_record, show } from '../../utils/json.js'
import { relative_error, same_shape, type Values } from '../compare.js'
import { type Check, failed, measured } from './report.js'
import { show_expert } from './tensors.js'
import { flatten, list_of } from './values.js'

interface RoutingCase {
  num_experts: number
  expert_capacity: number
  batch_prioritized_routing: boolean
  ignore_padding_tokens: boolean
  logits: Values
  padding_mask?: Values
  expert: Values
  slot: Values
  weight: Values
}

/** One check per case: experts and slots exactly, weights within `tolerance`. */
export async function verify_routing(
  json: Record<string, unknown>,
  file: string,
  backend: Backend,
  tolerance: number,
): Promise<Check[]> {
  const checks: Check[] = []
  for (const [i, entry] of list_of(json, 'cases', file).entries()) {
    checks.push(await verify_case(parse_case(entry, `case ${i} of ${file}`), i, backend, tolerance))
  }
  return checks
}

async function verify_case(expected: RoutingCase, i: number, backend: Backend, tolerance: number): Promise<Check> {
  const { num_experts, expert_capacity, batch_prioritized_routing, ignore_padding_tokens } = expected
  const name =
    `case ${i}: ${num_experts} experts, capacity ${expert_capacity}` +
    `${batch_prioritized_routing ? ', batch-prioritised' : ''}${ignore_padding_tokens ? ', padding left out' : ''}`
  const tensors = [wire('router_logits', Float32Array.from(expected.logits.data), expected.logits.dims)]
  if (expected.padding_mask !== undefined) {
    tensors.push(
      wire(
        'padding_mask',
        BigInt64Array.from(Array.from(expected.padding_mask.data, BigInt)),
        expected.padding_mask.dims,
      ),
    )
  }
  const request = {
    num_experts,
    expert_capacity,
    policy: { type: 'original' as const, expert_capacity, batch_prioritized_routing },
    ignore_padding_tokens,
  }
  const actual = unwire_all((await backend.call('route', request, tensors)).tensors)
  for (const field of ['expert', 'slot'] as const) {
    const values = actual.get(field)?.data as ArrayLike<number> | undefined
    if (values === undefined) return failed('routing', name, `no ${field} was returned`)
    const reference = expected[field].data
    const first = first_difference(values, reference)
    if (first < 0) continue
    const show_value = field === 'expert' ? show_expert : (slot: number | undefined) => `slot ${slot}`
    return failed(
      'routing',
      name,
      `token ${first}: ${show_value(values[first])}, expected ${show_value(reference[first])}`,
    )
  }
  const weight = actual.get('weight')?.data as ArrayLike<number> | undefined
  if (weight === undefined) return failed('routing', name, 'no weight was returned')
  return measured('routing', name, relative_error(weight, expected.weight.data), tolerance)
}

function first_difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const length = Math.max(a.length, b.length)
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i
  return -1
}

function parse_case(entry: unknown, what: string): RoutingCase {
  if (!is_record(entry)) throw new InputError(`${what} must be an object, not ${show(entry)}.`)
  const count = (field: string): number => {
    const value = entry[field]
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
    throw new InputError(`"${field}" of ${what} must be a whole number, not ${show(value)}.`)
  }
  const logits = flatten(entry.logits, 3, `"logits" of ${what}`)
  const per_token = (field: string, value: unknown = entry[field]): Values => {
    const values = flatten(value, 2, `"${field}" of ${what}`)
    if (same_shape(values.dims, logits.dims.slice(0, 2))) return values
    throw new InputError(`"${field}" of ${what} must have one value per token of "logits".`)
  }
  const mask = entry.padding_mask
  return {
    num_experts: count('num_experts'),
    expert_capacity: count('expert_capacity'),
    batch_prioritized_routing: entry.batch_prioritized_routing === true,
    ignore_padding_tokens: entry.ignore_padding_tokens === true,
    logits,
    ...(mask !== null && mask !== undefined && { padding_mask: per_token('padding_mask', to_numbers(mask)) }),
    expert: per_token('expert'),
    slot: per_token('slot'),
    weight: per_token('weight'),
  }
}

/** A mask may be of booleans. */
function to_numbers(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(to_numbers)
  return typeof value === 'boolean' ? Number(value) : value
}
