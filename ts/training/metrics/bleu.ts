/**
 * BLEU of a corpus as sacrebleu gives it by default: the 13a tokenization, 4-grams, exponential smoothing, all references
 * (Papineni et al. 2002; Post, arXiv 1804.08771). Its figures are the tests' fixture.
 *
 * Why not a library: npm's `bleu-score` 1.0.4 scores one sentence with one reference, splits at spaces and does not smooth.
 */

import { count_ngrams } from './ngrams.js'

const ORDER = 4

const ENTITIES: readonly (readonly [string, string])[] = [
  ['&quot;', '"'],
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
]

/** mteval-v13a's tokens. */
export function tokenize_13a(text: string): string[] {
  let line = text.trimEnd().replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ')
  for (const [entity, character] of ENTITIES) line = line.replaceAll(entity, character)
  return ` ${line} `
    .replace(/([{-~[-` -&(-+:-@/])/gu, ' $1 ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/gu, '$1 $2 ')
    .split(/\s+/)
    .filter((token) => token !== '')
}

/** From 0 to 100. */
export function bleu(predictions: readonly string[], references: readonly (readonly string[])[]): number {
  const correct = new Float64Array(ORDER)
  const total = new Float64Array(ORDER)
  let [predicted, expected] = [0, 0]
  for (const [i, prediction] of predictions.entries()) {
    const tokens = tokenize_13a(prediction)
    const targets = (references[i] as string[]).map(tokenize_13a)
    predicted += tokens.length
    expected += closest_length(tokens.length, targets)
    for (let order = 1; order <= ORDER; order++) {
      const counts = targets.map((target) => count_ngrams(target, order))
      let matches = 0
      for (const [ngram, count] of count_ngrams(tokens, order)) {
        matches += Math.min(count, Math.max(...counts.map((of) => of.get(ngram) ?? 0)))
      }
      correct[order - 1] = (correct[order - 1] as number) + matches
      total[order - 1] = (total[order - 1] as number) + Math.max(0, tokens.length - order + 1)
    }
  }
  if (!correct.some((count) => count > 0) || total.includes(0)) return 0
  let smoothing = 1
  const logs = Array.from(correct, (count, at) => {
    if (count > 0) return Math.log(count / (total[at] as number))
    smoothing *= 2
    return Math.log(1 / (smoothing * (total[at] as number)))
  })
  const brevity = predicted < expected ? Math.exp(1 - expected / predicted) : 1
  return 100 * brevity * Math.exp(logs.reduce((sum, log) => sum + log, 0) / ORDER)
}

/** The length of the reference that is nearest in length, the shorter one of two. */
function closest_length(length: number, targets: readonly (readonly string[])[]): number {
  return targets
    .map((target) => target.length)
    .reduce((best, each) => {
      const [a, b] = [Math.abs(each - length), Math.abs(best - length)]
      return a < b || (a === b && each < best) ? each : best
    })
}
