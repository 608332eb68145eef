/** The patterns of `Split` and `Replace`: a string or a regular expression in Oniguruma's syntax. */

import { SplitPreTokenizer } from '@huggingface/tokenizers'
import { InputError } from '../errors.js'
import type { Field } from './field.js'

export type Pattern = string | RegExp

/** A stretch of text that the pattern matched, or one between such. They cover the text in order. */
export interface Stretch {
  start: number
  end: number
  matched: boolean
}

/** A pattern longer than this comes from no real tokenizer; the longest known has about 600 characters. */
const MAX_PATTERN = 4096
/**
 * JavaScript cannot interrupt a regular expression. What could take exponential time is refused when the file is read
 * ({@link has_nested_repetition}); what may still take quadratic time is only given texts up to this length.
 */
const MAX_TEXT = 100_000

/** The pattern of a file. The translation from Oniguruma's syntax is that of the `@huggingface/tokenizers` library. */
export function parse_pattern(field: Field): Pattern {
  const pattern = field.object()
  if ('String' in pattern) return field.get('String').string()
  const source = field.get('Regex')
  const text = source.string()
  if (text.length > MAX_PATTERN) source.fail(`a pattern of at most ${MAX_PATTERN} characters`)
  if (has_nested_repetition(text))
    source.fail('a pattern without back-references and without repeated groups that repeat or choose inside')
  try {
    const { pattern } = new SplitPreTokenizer({
      type: 'Split',
      pattern: { Regex: text },
      behavior: 'Isolated',
      invert: false,
    } as never)
    if (pattern instanceof RegExp) return pattern
  } catch {
    // Falls through to the same answer.
  }
  return source.fail('a regular expression that JavaScript can express')
}

/** The stretches of `text`. Empty matches do not count. */
export function find_pattern(pattern: Pattern, text: string): Stretch[] {
  const stretches: Stretch[] = []
  let before = 0
  const add = (start: number, end: number) => {
    if (start === end) return
    if (before < start) stretches.push({ start: before, end: start, matched: false })
    stretches.push({ start, end, matched: true })
    before = end
  }
  if (typeof pattern !== 'string') {
    if (text.length > MAX_TEXT) {
      throw new InputError(
        `A stretch of ${text.length} characters is too long for this tokenizer's regular expression; at most ${MAX_TEXT} are taken. Split the text first.`,
      )
    }
    for (const match of text.matchAll(pattern)) add(match.index, match.index + match[0].length)
  } else if (pattern !== '') {
    for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + pattern.length))
      add(at, at + pattern.length)
  }
  if (before < text.length) stretches.push({ start: before, end: text.length, matched: false })
  return stretches
}

/**
 * Whether a group that may repeat without end contains a repetition or a choice, which is what makes backtracking
 * exponential, or whether there are back-references. Errs on the side of refusal.
 */
export function has_nested_repetition(source: string): boolean {
  /** For each open group: whether it repeats or chooses inside. */
  const groups: boolean[] = [false]
  for (let at = 0; at < source.length; ++at) {
    const char = source[at]!
    if (char === '\\') {
      if (/[1-9kg]/.test(source[at + 1] ?? '')) return true
      ++at
    } else if (char === '[') {
      at = class_end(source, at)
    } else if (char === '(') {
      groups.push(false)
    } else if (char === ')') {
      const inside = groups.length > 1 ? groups.pop()! : false
      if (inside && repeats(source.slice(at + 1))) return true
      if (inside) groups[groups.length - 1] = true
    } else if (char === '|' || repeats(source.slice(at))) {
      groups[groups.length - 1] = true
    }
  }
  return false
}

/** Whether `rest` begins with a quantifier that has no upper bound, or one that is as good as none. */
function repeats(rest: string): boolean {
  if (rest[0] === '*' || rest[0] === '+') return true
  const bounds = /^\{(\d*)(,?)(\d*)\}/.exec(rest)
  return bounds !== null && ((bounds[2] === ',' && bounds[3] === '') || Number(bounds[3] || bounds[1]) > 16)
}

/** The closing bracket of the character class that opens at `start`. */
function class_end(source: string, start: number): number {
  let depth = 0
  for (let at = start; at < source.length; ++at) {
    if (source[at] === '\\') ++at
    else if (source[at] === '[') ++depth
    else if (source[at] === ']' && at > start + 1 && --depth === 0) return at
  }
  return source.length
}
