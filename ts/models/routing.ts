/** Routing policies as callers name them. */

import type { RoutingPolicy } from '../backend/contract.js'
import type { OptionError } from '../errors.js'
import { invalid_option } from '../utils/invalid_option.js'
import { is_record, show } from '../utils/json.js'

const TYPES: readonly string[] = ['reference', 'dropless', 'original'] satisfies RoutingPolicy['type'][]
const ORIGINAL: ReadonlySet<string> = new Set([
  'type',
  'capacity_factor',
  'expert_capacity',
  'batch_prioritized_routing',
])

/** A policy from its name or its object. Undefined where none was given. */
export function check_routing(value: unknown): RoutingPolicy | undefined {
  if (value === undefined || value === null) return undefined
  const policy = typeof value === 'string' ? { type: value } : value
  if (!is_record(policy) || typeof policy.type !== 'string' || !TYPES.includes(policy.type)) {
    throw invalid(
      `routing must be ${TYPES.map((type) => `'${type}'`).join(', ')} or an object with one as its type, not ${show(value)}.`,
    )
  }
  const known = policy.type === 'original' ? ORIGINAL : new Set(['type'])
  const unknown = Object.keys(policy).filter((name) => !known.has(name) && policy[name] !== undefined)
  if (unknown.length > 0) throw invalid(`routing of type '${policy.type}' has no ${unknown.join(', ')}.`)
  const { capacity_factor, expert_capacity, batch_prioritized_routing } = policy
  if (
    capacity_factor !== undefined &&
    !(typeof capacity_factor === 'number' && capacity_factor > 0 && Number.isFinite(capacity_factor))
  ) {
    throw invalid(`routing.capacity_factor must be a number above 0, not ${show(capacity_factor)}.`)
  }
  if (expert_capacity !== undefined && !(Number.isSafeInteger(expert_capacity) && (expert_capacity as number) >= 0)) {
    throw invalid(`routing.expert_capacity must be an integer of at least 0, not ${show(expert_capacity)}.`)
  }
  if (batch_prioritized_routing !== undefined && typeof batch_prioritized_routing !== 'boolean') {
    throw invalid(`routing.batch_prioritized_routing must be true or false, not ${show(batch_prioritized_routing)}.`)
  }
  return policy as unknown as RoutingPolicy
}

function invalid(message: string): OptionError {
  return invalid_option('routing', message)
}
