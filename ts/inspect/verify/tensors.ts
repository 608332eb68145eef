/** Compares what a forward pass returned with a case's expected tensors. */

import { non_finite, relative_error, same_shape, show_shape, type Values } from '../compare.js'
import { DROPPED, type RoutingRule, reference_routes } from '../routes.js'
import { type Check, failed, measured, passed } from './report.js'

export type NamedValues = ReadonlyMap<string, Values>

/** The forward pass's name for a tensor that the expected file calls `encoder.router_logits.0`, say. */
export function output_name(expected: string): string {
  return expected.replace(
    /^(encoder|decoder)\.(last_hidden_state|router_logits|routes|hidden_states|attentions)(?=\.|$)/,
    '$1_$2',
  )
}

/** An output's name without its layer, which is how it is asked for. */
export function output_group(output: string): string {
  return output.replace(/\.\d+$/, '')
}

/** Which outputs to ask the forward pass for, so that every expected tensor and every routing decision can be compared. */
export function outputs_for(expected: Iterable<string>): string[] {
  const groups = new Set<string>()
  for (const name of expected) {
    const group = output_group(output_name(name))
    groups.add(group)
    if (group.endsWith('_router_logits')) groups.add(group.replace('router_logits', 'routes'))
  }
  return [...groups].sort()
}

/** One check per expected tensor, in the order of their names. */
export function compare_tensors(expected: NamedValues, actual: NamedValues, tolerance: number): Check[] {
  return [...expected.keys()].sort(by_name).map((name) => {
    const reference = expected.get(name) as Values
    const values = actual.get(output_name(name))
    if (values === undefined) return failed('tensor', name, 'the model returns no such tensor')
    // A scalar may come with or without a dimension.
    const scalars = reference.data.length === 1 && values.data.length === 1
    if (!scalars && !same_shape(values.dims, reference.dims)) {
      return failed('tensor', name, `its shape is ${show_shape(values.dims)}, expected ${show_shape(reference.dims)}`)
    }
    const error = relative_error(values.data, reference.data)
    const broken = Number.isFinite(error) ? null : non_finite(values)
    const detail =
      broken === null ? undefined : `${broken.count} values are not finite, the first at ${show_shape(broken.first)}`
    return measured('tensor', name, error, tolerance, detail)
  })
}

/**
 * One check per sparse layer: the expert that took each token, and the dropped tokens, exactly as the expected router
 * logits say.
 */
export function compare_routes(expected: NamedValues, actual: NamedValues, rule: RoutingRule): Check[] {
  return [...expected.keys()]
    .filter((name) => /^(?:encoder|decoder)\.router_logits\.\d+$/.test(name))
    .sort(by_name)
    .map((name) => {
      const label = name.replace('router_logits', 'routes')
      const logits = expected.get(name) as Values
      const routes = actual.get(output_name(label))
      if (routes === undefined) return failed('routing', label, 'the model returns no routing decisions for it')
      const reference = reference_routes(logits, rule)
      if (routes.data.length !== reference.length) {
        return failed('routing', label, `${routes.data.length} tokens were routed, expected ${reference.length}`)
      }
      return compare_decisions(label, routes.data, reference, logits.dims[1] ?? 1)
    })
}

function compare_decisions(label: string, actual: ArrayLike<number>, expected: Int32Array, tokens: number): Check {
  let differing = 0
  let first = -1
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i]) continue
    if (first < 0) first = i
    differing += 1
  }
  if (differing === 0) return passed('routing', label)
  const place = `row ${Math.floor(first / tokens)}, position ${first % tokens}`
  const detail = `${differing} of ${expected.length} tokens differ, the first at ${place}: ${show_expert(actual[first])}, expected ${show_expert(expected[first])}`
  return failed('routing', label, detail)
}

export function show_expert(expert: number | undefined): string {
  return expert === DROPPED ? 'dropped' : `expert ${expert}`
}

/** By name, with numbers by value, so that layer 10 comes after layer 9. */
export function by_name(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
