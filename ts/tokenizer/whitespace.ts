/** White space as Unicode has it. JavaScript's `\s` has U+FEFF besides and lacks U+0085. */

export const WHITE_SPACE_AT_START = /^\p{White_Space}+/u

/** Where the white space at the end of `text` begins. A loop, because a regular expression would be quadratic. */
export function white_space_at_end(text: string): number {
  let end = text.length
  while (end > 0 && /\p{White_Space}/u.test(text[end - 1]!)) --end
  return end
}

/** Where the runs of white space are. */
export function* white_space_runs(text: string): Generator<{ start: number; end: number }> {
  for (const match of text.matchAll(/\p{White_Space}+/gu))
    yield { start: match.index, end: match.index + match[0].length }
}
