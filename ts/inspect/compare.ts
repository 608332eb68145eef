/** Measures of difference, all taken in float64. */

/** Numbers with a shape, row-major. */
export interface Values {
  dims: readonly number[]
  data: ArrayLike<number>
}

/**
 * ‖actual − expected‖ / ‖expected‖, over all elements; ‖actual‖ where the expected values are all zero. Elements that are
 * equal, infinities and NaN included, count as no difference; a non-finite one that is not makes the error infinite.
 */
export function relative_error(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] as number
    const e = expected[i] as number
    if (Number.isFinite(e)) norm += e * e
    if (a === e || Object.is(a, e)) continue
    const d = a - e
    if (!Number.isFinite(d)) return Number.POSITIVE_INFINITY
    difference += d * d
  }
  if (difference === 0) return 0
  return Math.sqrt(norm > 0 ? difference / norm : difference)
}

/**
 * The largest of |actual − expected| / max(1, |expected|) over the elements. Unlike a norm it is not blind to small
 * elements beside huge ones, as processed scores have.
 */
export function largest_error(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] as number
    const e = expected[i] as number
    if (a === e || Object.is(a, e)) continue
    const error = Math.abs(a - e) / Math.max(1, Math.abs(e))
    if (!Number.isFinite(error)) return Number.POSITIVE_INFINITY
    if (error > largest) largest = error
  }
  return largest
}

export function same_shape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i])
}

/** How many elements are NaN or infinite, and the first one's place; null when all are finite. */
export function non_finite({ dims, data }: Values): { count: number; first: number[]; value: number } | null {
  let count = 0
  let first = -1
  for (let i = 0; i < data.length; i++) {
    if (Number.isFinite(data[i])) continue
    if (first < 0) first = i
    count += 1
  }
  if (first < 0) return null
  return { count, first: position(first, dims), value: data[first] as number }
}

/** The index in every dimension of the element at `offset`. */
export function position(offset: number, dims: readonly number[]): number[] {
  const indices: number[] = []
  let rest = offset
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    const size = dims[axis] as number
    indices.unshift(rest % size)
    rest = Math.floor(rest / size)
  }
  return indices
}

export function show_shape(dims: readonly number[]): string {
  return `[${dims.join(', ')}]`
}
