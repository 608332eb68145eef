/** The reference's routing decisions, computed from router logits the slow and plain way. */

import type { Values } from './compare.js'

export type RouterDtype = 'float32' | 'bfloat16' | 'float16'

export interface RoutingRule {
  /** Tokens that an expert takes per row and call. */
  expert_capacity: number
  /** The dtype of the softmax. Default float32. */
  router_dtype?: RouterDtype
}

/** Where a dropped token goes. */
export const DROPPED = -1

/**
 * The expert of every token, {@link DROPPED} where its expert was full: the largest probability wins, the lowest index
 * first among equals, and capacity is counted per row in position order.
 *
 * @param logits [rows, tokens, experts]
 * @returns [rows, tokens], row-major
 */
export function reference_routes(logits: Values, rule: RoutingRule): Int32Array {
  const [rows = 0, tokens = 0, experts = 0] = logits.dims
  const rounded = ROUND[rule.router_dtype ?? 'float32']
  const routes = new Int32Array(rows * tokens)
  for (let row = 0; row < rows; row++) {
    const taken = new Int32Array(experts)
    for (let token = 0; token < tokens; token++) {
      const place = row * tokens + token
      const expert = top_expert(logits.data, place * experts, experts, rounded)
      taken[expert] = (taken[expert] ?? 0) + 1
      routes[place] = (taken[expert] as number) <= rule.expert_capacity ? expert : DROPPED
    }
  }
  return routes
}

/** Argmax after the softmax, because rounding can make probabilities equal whose logits were not. */
function top_expert(data: ArrayLike<number>, start: number, experts: number, rounded: (x: number) => number): number {
  let largest = Number.NEGATIVE_INFINITY
  for (let e = 0; e < experts; e++) largest = Math.max(largest, data[start + e] as number)
  let sum = 0
  for (let e = 0; e < experts; e++) sum += Math.exp((data[start + e] as number) - largest)
  let best = 0
  let best_probability = Number.NEGATIVE_INFINITY
  for (let e = 0; e < experts; e++) {
    const probability = rounded(Math.exp((data[start + e] as number) - largest) / sum)
    if (probability > best_probability) {
      best = e
      best_probability = probability
    }
  }
  return best
}

const ROUND: Record<RouterDtype, (x: number) => number> = {
  float32: Math.fround,
  bfloat16: (x) => to_precision(x, 8, -126),
  float16: (x) => to_precision(x, 11, -14),
}

/** Rounds to `bits` significant bits, ties to even, with subnormals below 2^`min_exponent`. For x in [0, 1]. */
function to_precision(x: number, bits: number, min_exponent: number): number {
  if (x === 0) return 0
  const exponent = Math.max(Math.floor(Math.log2(x)), min_exponent)
  const unit = 2 ** (exponent - bits + 1)
  const scaled = x / unit
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 === 1)
  return (up ? floor + 1 : floor) * unit
}
