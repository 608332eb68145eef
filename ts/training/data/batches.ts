/** Which examples make up which batch of an epoch: a function of the seed and the epoch's number alone. */

import { InputError } from '../../errors.js'
import type { FeatureTable } from './features.js'
import { random, shuffle } from './random.js'

export interface BatchPlanOptions {
  batch_size: number
  /** Fills batches by rows × (longest source + longest target) instead. */
  max_tokens?: number | null
  strategy: 'random' | 'sequential' | 'group_by_length'
  drop_last?: boolean
  seed: number
}

/** Batches that are sorted together by length. */
const GROUP = 32

/** What lengths a plan looks at. */
export type Lengths = Pick<FeatureTable, 'length' | 'source_length' | 'target_length'>

/** Indices of the examples of each batch, in order. */
export function plan_epoch(lengths: Lengths, epoch: number, options: BatchPlanOptions): Int32Array[] {
  const order = Int32Array.from({ length: lengths.length }, (_, index) => index)
  const { strategy, seed, batch_size } = options
  const generator = random(seed, epoch)
  if (strategy !== 'sequential') shuffle(order, generator)
  const total = (index: number) => lengths.source_length(index) + lengths.target_length(index)
  const batches: Int32Array[] = []
  if (strategy === 'group_by_length') {
    const group = batch_size * GROUP
    for (let start = 0; start < order.length; start += group) {
      // Sorting is stable: equal lengths stay in the order that the seed gave them.
      batches.push(
        ...cut(
          order.slice(start, start + group).sort((a, b) => total(a) - total(b)),
          lengths,
          options,
        ),
      )
    }
    const last = batches.findIndex((batch) => batch.length < batch_size)
    if (options.drop_last && !options.max_tokens && last >= 0) batches.splice(last, 1)
    return shuffle(batches, generator)
  }
  batches.push(...cut(order, lengths, options))
  if (options.drop_last && !options.max_tokens && (batches.at(-1)?.length ?? batch_size) < batch_size) batches.pop()
  return batches
}

function cut(order: Int32Array, lengths: Lengths, { batch_size, max_tokens }: BatchPlanOptions): Int32Array[] {
  const batches: Int32Array[] = []
  if (!max_tokens) {
    for (let start = 0; start < order.length; start += batch_size) batches.push(order.slice(start, start + batch_size))
    return batches
  }
  let start = 0
  let [source, target] = [0, 0]
  for (const [at, index] of order.entries()) {
    const own = [lengths.source_length(index), lengths.target_length(index)] as const
    if (own[0] + own[1] > max_tokens) {
      throw new InputError(
        `An example of ${own[0] + own[1]} tokens does not fit max_tokens_per_batch, ${max_tokens}. Raise it, or lower max_source_length and max_target_length.`,
        { details: { tokens: own[0] + own[1], max_tokens } },
      )
    }
    const longest = [Math.max(source, own[0]), Math.max(target, own[1])] as const
    if ((at - start + 1) * (longest[0] + longest[1]) <= max_tokens) {
      ;[source, target] = longest
      continue
    }
    batches.push(order.slice(start, at))
    start = at
    ;[source, target] = own
  }
  if (start < order.length) batches.push(order.slice(start))
  return batches
}
