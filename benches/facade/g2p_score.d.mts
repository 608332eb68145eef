export interface Row {
  word: string
  pronunciations: string[]
  greedy: string
  beam4: string
}

export interface Result {
  equal: number
  differing: { word: string; answer: string; reference: string }[]
  phoneme_error_rate: number
  word_error_rate: number
}

export function parse_rows(text: string): Row[]
export function evaluate(rows: readonly Row[], answers: readonly string[], reference: 'greedy' | 'beam4'): Result
