/** The router's outputs in the reference's form. */

import { Tensor } from '../tensor.js'

type RouterDtype = 'float32' | 'float16' | 'bfloat16'

/** Softmax over experts, rounded as the reference's router dtype rounds it. */
export function router_probabilities(logits: Tensor<'float32'>, dtype: RouterDtype): Tensor<'float32'> {
  const experts = logits.dims[logits.dims.length - 1] as number
  const probs = new Float32Array(logits.size)
  for (let start = 0; start < logits.size; start += experts) {
    const row = logits.data.subarray(start, start + experts)
    const largest = row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY)
    const exps = Float64Array.from(row, (value) => Math.exp(value - largest))
    const sum = exps.reduce((total, value) => total + value, 0)
    for (let expert = 0; expert < experts; expert++) {
      probs[start + expert] = round_to(dtype, (exps[expert] as number) / sum)
    }
  }
  return new Tensor('float32', probs, logits.dims)
}

/** int32 experts [rows, tokens], -1 for none, as one-hot int64 [rows, tokens, experts]. */
export function one_hot(routes: Tensor<'int32'>, experts: number): Tensor<'int64'> {
  const data = new BigInt64Array(routes.size * experts)
  for (const [token, expert] of routes.data.entries()) if (expert >= 0) data[token * experts + expert] = 1n
  return new Tensor('int64', data, [...routes.dims, experts])
}

/** Bits of the significand, the hidden one included. */
const PRECISION: Readonly<Record<RouterDtype, number>> = { float32: 24, float16: 11, bfloat16: 8 }

/** A probability to the nearest value of a type, ties to even. Probabilities that underflow do not matter here. */
function round_to(dtype: RouterDtype, value: number): number {
  if (dtype === 'float32' || !(value > 0)) return Math.fround(value)
  const unit = 2 ** (Math.floor(Math.log2(value)) + 1 - PRECISION[dtype])
  const scaled = value / unit
  const below = Math.floor(scaled)
  const up = scaled - below > 0.5 || (scaled - below === 0.5 && below % 2 === 1)
  return (below + (up ? 1 : 0)) * unit
}
