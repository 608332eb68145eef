/** Error rates of pronunciations. */

/** The rows of a test file. */
export function parse_rows(text) {
  const lines = text.trimEnd().split('\n').slice(1)
  return lines.map((line) => {
    const [word, pronunciations, greedy, beam4] = line.split('\t')
    return { word, pronunciations: pronunciations.split(' | '), greedy, beam4 }
  })
}

/**
 * Answers against the reference's and against the dictionary. A word is right if it equals any of its pronunciations; the
 * phoneme error rate takes the closest one, by edit distance over its length.
 */
export function evaluate(rows, answers, reference) {
  let errors = 0
  let phonemes = 0
  let wrong = 0
  const differing = []
  for (const [i, row] of rows.entries()) {
    const answer = answers[i]
    if (answer !== row[reference]) differing.push({ word: row.word, answer, reference: row[reference] })
    const closest = closest_pronunciation(answer, row.pronunciations)
    errors += closest.distance
    phonemes += closest.length
    if (closest.distance > 0) wrong += 1
  }
  return {
    equal: rows.length - differing.length,
    differing,
    phoneme_error_rate: errors / phonemes,
    word_error_rate: wrong / rows.length,
  }
}

function closest_pronunciation(answer, pronunciations) {
  const given = answer.split(' ').filter(Boolean)
  let best = null
  for (const pronunciation of pronunciations) {
    const expected = pronunciation.split(' ')
    const distance = edit_distance(given, expected)
    const rate = distance / Math.max(1, expected.length)
    if (best === null || rate < best.rate) best = { rate, distance, length: expected.length }
  }
  return best
}

function edit_distance(a, b) {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(previous[j] + 1, row[j - 1] + 1, changed))
    }
    previous = row
  }
  return previous[b.length]
}
