/**
 * ROUGE as Google's rouge_score gives it without a stemmer: the F measure of each text with its best reference, averaged
 * (Lin 2004). Its figures are the tests' fixture.
 *
 * Why not a library: of npm's, js-rouge 3.2.3 gives the same ROUGE-N with this tokenizer, but throws on an empty
 * prediction and splits texts into sentences of its own for ROUGE-L, which it has in one form only.
 */

import { count_matches, count_ngrams } from './ngrams.js'

export type RougeType = 'rouge1' | 'rouge2' | 'rougeL' | 'rougeLsum'

/** From 0 to 1. */
export function rouge(
  type: RougeType,
  predictions: readonly string[],
  references: readonly (readonly string[])[],
): number {
  const scores = predictions.map((prediction, i) =>
    Math.max(0, ...(references[i] as string[]).map((reference) => SCORES[type](prediction, reference))),
  )
  return scores.length === 0 ? 0 : scores.reduce((sum, score) => sum + score, 0) / scores.length
}

const SCORES: Readonly<Record<RougeType, (prediction: string, reference: string) => number>> = {
  rouge1: (prediction, reference) => ngram_score(prediction, reference, 1),
  rouge2: (prediction, reference) => ngram_score(prediction, reference, 2),
  rougeL(prediction, reference) {
    const [found, expected] = [tokens(prediction), tokens(reference)]
    const common = common_indices(expected, found).length
    return f_measure(common, found.length, expected.length)
  },
  rougeLsum(prediction, reference) {
    const [found, expected] = [sentences(prediction), sentences(reference)]
    return f_measure(union_hits(expected, found), found.flat().length, expected.flat().length)
  },
}

function tokens(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? []
}

/** A summary's sentences are its lines. */
function sentences(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(tokens)
}

function ngram_score(prediction: string, reference: string, order: number): number {
  const [found, expected] = [count_ngrams(tokens(prediction), order), count_ngrams(tokens(reference), order)]
  const size = (counts: Map<string, number>) => [...counts.values()].reduce((sum, count) => sum + count, 0)
  return f_measure(count_matches(found, expected), size(found), size(expected))
}

function f_measure(hits: number, predicted: number, expected: number): number {
  return hits === 0 ? 0 : (2 * hits) / (predicted + expected)
}

/** Which tokens of `a` a longest common subsequence with `b` holds; of several the one that backtracking finds first. */
function common_indices(a: readonly string[], b: readonly string[]): number[] {
  const width = b.length + 1
  const lengths = new Uint32Array((a.length + 1) * width)
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const at = i * width + j
      lengths[at] =
        a[i - 1] === b[j - 1]
          ? (lengths[at - width - 1] as number) + 1
          : Math.max(lengths[at - width] as number, lengths[at - 1] as number)
    }
  }
  const indices: number[] = []
  let [i, j] = [a.length, b.length]
  while (i > 0 && j > 0) {
    const at = i * width + j
    if (a[i - 1] === b[j - 1]) {
      indices.unshift(i - 1)
      i -= 1
      j -= 1
    } else if ((lengths[at - 1] as number) > (lengths[at - width] as number)) {
      j -= 1
    } else {
      i -= 1
    }
  }
  return indices
}

/** Tokens of the reference's sentences that are in common with any of the prediction's, each token counted once. */
function union_hits(expected: string[][], found: string[][]): number {
  const left_expected = count_ngrams(expected.flat(), 1)
  const left_found = count_ngrams(found.flat(), 1)
  let hits = 0
  for (const sentence of expected) {
    const union = new Set(found.flatMap((other) => common_indices(sentence, other)))
    for (const index of union) {
      const token = sentence[index] as string
      const [a, b] = [left_expected.get(token) ?? 0, left_found.get(token) ?? 0]
      if (a === 0 || b === 0) continue
      hits += 1
      left_expected.set(token, a - 1)
      left_found.set(token, b - 1)
    }
  }
  return hits
}
