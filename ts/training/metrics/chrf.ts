/**
 * chrF of a corpus as sacrebleu gives it by default: character 6-grams without white space, beta 2, the best reference of
 * each text (Popović 2015). Its figures are the tests' fixture. No npm package computes it.
 */

import { count_matches, count_ngrams } from './ngrams.js'

const ORDER = 6
const BETA_SQUARED = 4

/** Per order: n-grams of the prediction, of the reference, of both. */
type Statistics = [predicted: number, expected: number, matched: number][]

/** From 0 to 100. */
export function chrf(predictions: readonly string[], references: readonly (readonly string[])[]): number {
  const sums: Statistics = Array.from({ length: ORDER }, () => [0, 0, 0])
  for (const [i, prediction] of predictions.entries()) {
    const found = orders(prediction)
    let best: { statistics: Statistics; score: number } | undefined
    for (const reference of references[i] as string[]) {
      const statistics = compare(found, orders(reference))
      const score = f_score(statistics)
      if (best === undefined || score > best.score) best = { statistics, score }
    }
    for (const [order, counts] of (best?.statistics ?? []).entries()) {
      const sum = sums[order] as [number, number, number]
      for (const part of [0, 1, 2] as const) sum[part] += counts[part]
    }
  }
  return f_score(sums)
}

function orders(text: string): Map<string, number>[] {
  const characters = [...text.replace(/\s+/gu, '')]
  return Array.from({ length: ORDER }, (_, order) => count_ngrams(characters, order + 1))
}

function compare(found: Map<string, number>[], expected: Map<string, number>[]): Statistics {
  const size = (counts: Map<string, number>) => [...counts.values()].reduce((sum, count) => sum + count, 0)
  return found.map((counts, order) => {
    const reference = expected[order] as Map<string, number>
    // As in sacrebleu, orders that the reference is too short for do not count against the prediction.
    return [reference.size > 0 ? size(counts) : 0, size(reference), count_matches(counts, reference)]
  })
}

function f_score(statistics: Statistics): number {
  let [precision, recall, effective] = [0, 0, 0]
  for (const [predicted, expected, matched] of statistics) {
    if (predicted === 0 || expected === 0) continue
    precision += matched / predicted
    recall += matched / expected
    effective += 1
  }
  if (effective === 0 || precision + recall === 0) return 0
  precision /= effective
  recall /= effective
  return (100 * (1 + BETA_SQUARED) * precision * recall) / (BETA_SQUARED * precision + recall)
}
