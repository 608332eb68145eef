/** Counts of n-grams. */

/** Joins the parts of an n-gram: no text that is compared holds it. */
const GLUE = '\u0000'

export function count_ngrams(units: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (let at = 0; at + order <= units.length; at++) {
    const ngram = units.slice(at, at + order).join(GLUE)
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1)
  }
  return counts
}

/** How many of `found` are in `expected`, each at most as often as there. */
export function count_matches(found: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>): number {
  let matches = 0
  for (const [ngram, count] of found) matches += Math.min(count, expected.get(ngram) ?? 0)
  return matches
}
