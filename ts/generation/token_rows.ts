/** Rows of generated ids, and where they end. */

/** The ids that end a row, from the first of these values that is set: an id, a list of them, or nothing. */
export function end_token_ids(...values: unknown[]): number[] {
  const eos = values.find((value) => value !== undefined && value !== null)
  return (Array.isArray(eos) ? eos : [eos]).filter((id): id is number => typeof id === 'number')
}

/** The row with its first end token, and nothing after it. The token that decoding starts from does not end it. */
export function until_end(row: readonly number[], ends: readonly number[]): number[] {
  const end = row.findIndex((id, i) => i > 0 && ends.includes(id))
  return row.slice(0, end < 0 ? row.length : end + 1)
}
