/** Small sums that the benches share. */

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** ‖found − expected‖ / ‖expected‖ over the elements that `counts` lets through. */
export function relative_error(found, expected, counts = () => true) {
  if (found.length !== expected.length) throw new Error(`${found.length} values against ${expected.length}`)
  let difference = 0
  let norm = 0
  for (let i = 0; i < found.length; i++) {
    if (!counts(i)) continue
    difference += (found[i] - expected[i]) ** 2
    norm += expected[i] ** 2
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm)
}

/** Ids that are the same in every run and on every machine, within a vocabulary and never a special token. */
export function some_ids(rows, tokens, seed = 1, vocab_size = 32_000) {
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  const id = () => 3 + Math.floor(next() * (vocab_size - 3))
  return Array.from({ length: rows }, () => Array.from({ length: tokens }, id))
}
