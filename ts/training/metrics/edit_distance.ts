/** Edit distances of characters and words, by fastest-levenshtein (MIT, 1 kB). */

import { distance } from 'fastest-levenshtein'

/** How far a text is from the reference that is closest to it. */
export interface Distance {
  /** Insertions, deletions and substitutions. */
  edits: number
  /** Units of that reference. */
  length: number
}

/** Characters are code points. */
export const characters = (text: string): string[] => [...text]
/** Words are what white space separates. */
export const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')

/** The library compares UTF-16 units. Every different unit gets one of its own, so that it compares what is asked for. */
const MOST_UNITS = 2 ** 16

export function closest(
  prediction: string,
  references: readonly string[],
  units: (text: string) => string[],
): Distance {
  const found = units(prediction)
  let best: Distance = { edits: Number.POSITIVE_INFINITY, length: 1 }
  for (const reference of references) {
    const expected = units(reference)
    const { length } = expected
    const edits = unit_distance(found, expected)
    if (edits / Math.max(1, length) < best.edits / Math.max(1, best.length)) best = { edits, length }
  }
  return best
}

function unit_distance(a: readonly string[], b: readonly string[]): number {
  const codes = new Map<string, number>()
  const encode = (list: readonly string[]) =>
    String.fromCharCode(
      ...list.map((unit) => {
        const code = codes.get(unit) ?? codes.size % MOST_UNITS
        codes.set(unit, code)
        return code
      }),
    )
  // Spread arguments have a limit far above what models write.
  const [first, second] = [a.slice(0, 32_768), b.slice(0, 32_768)]
  return distance(encode(first), encode(second)) + Math.abs(a.length - first.length - (b.length - second.length))
}

/** Edits of all pairs by the units of all references; 0 where there are none. */
export function error_rate(
  predictions: readonly string[],
  references: readonly (readonly string[])[],
  units: (text: string) => string[],
): number {
  let edits = 0
  let length = 0
  for (const [i, prediction] of predictions.entries()) {
    const best = closest(prediction, references[i] as string[], units)
    edits += best.edits
    length += best.length
  }
  return length === 0 ? 0 : edits / length
}
