/** Features of unequal length as the rectangle that a step takes. */

import type { WireTensor } from '../../backend/contract.js'
import { wire } from '../../backend/wire.js'
import type { Feature } from './features.js'

export interface Batch {
  tensors: WireTensor[]
  /** Rows. */
  examples: number
  /** Ids of both sides, padding left out. */
  tokens: number
  /** Labels that count. */
  targets: number
}

export interface CollateOptions {
  pad_token_id: number
}

/** Labels that do not count. */
const IGNORED = -100

export function collate(features: readonly Feature[], { pad_token_id }: CollateOptions): Batch {
  const rows = features.length
  const source = Math.max(1, ...features.map(({ input_ids }) => input_ids.length))
  const target = Math.max(1, ...features.map(({ labels }) => labels.length))
  const input_ids = new Int32Array(rows * source).fill(pad_token_id)
  const attention_mask = new Int32Array(rows * source)
  const labels = new Int32Array(rows * target).fill(IGNORED)
  let tokens = 0
  let targets = 0
  for (const [row, feature] of features.entries()) {
    input_ids.set(feature.input_ids, row * source)
    attention_mask.fill(1, row * source, row * source + feature.input_ids.length)
    labels.set(feature.labels, row * target)
    tokens += feature.input_ids.length + feature.labels.length
    targets += feature.labels.length
  }
  return {
    tensors: [
      wire('input_ids', input_ids, [rows, source]),
      wire('attention_mask', attention_mask, [rows, source]),
      wire('labels', labels, [rows, target]),
    ],
    examples: rows,
    tokens,
    targets,
  }
}
