/** The patterns of `Split` and `Replace`: a string or a regular expression in Oniguruma's syntax. */

import { InputError } from '../errors.js'
import type { Field } from './field.js'
import { translate_regex } from './regex.js'

/** A string, or a sticky regular expression with the length of text that it can take in time. */
export type Pattern = string | { regex: RegExp; max_text: number }

/** A stretch of text that the pattern matched, or one between such. They cover the text in order. */
export interface Stretch {
  start: number
  end: number
  matched: boolean
}

/** A pattern longer than this comes from no real tokenizer; the longest known has about 600 characters. */
const MAX_PATTERN = 4096
/** Steps that a regular expression may take at one position: some seconds. */
const MAX_STEPS = 4e9
const MAX_TEXT = 1_000_000
/** A pattern that cannot take a text of this length is refused. */
const MIN_TEXT = 200
/** Characters of a text that replacements have made longer. */
const MAX_GROWN = 2 ** 26
/** Time for one text, looked at between positions. */
const MAX_MILLISECONDS = 10_000

/** The pattern of a file. */
export function parse_pattern(field: Field): Pattern {
  const object = field.object()
  if ('String' in object) return field.get('String').string()
  const source = field.get('Regex')
  if (source.string().length > MAX_PATTERN) source.fail(`a pattern of at most ${MAX_PATTERN} characters`)
  const translation = translate_regex(source.string())
  if (translation) {
    const { bound, degree } = translation
    const max_text = Math.min(MAX_TEXT, Math.floor((MAX_STEPS / bound) ** (1 / Math.max(1, degree))))
    const regex = compile(translation.source)
    if (regex && max_text >= MIN_TEXT) return { regex, max_text }
  }
  return source.fail(
    'a regular expression that means the same in JavaScript and takes no exponential time (no back-references, no atomic or repeated groups that repeat or choose inside)',
  )
}

function compile(source: string): RegExp | null {
  try {
    return new RegExp(source, 'uy')
  } catch {
    return null
  }
}

/** The stretches of `text` by a pattern. An empty match is a stretch too, and a cut. */
export function find_pattern(pattern: Pattern, text: string): Stretch[] {
  return cover(text, find(pattern, text))
}

function find(pattern: Pattern, text: string): Iterable<{ start: number; end: number }> {
  if (typeof pattern === 'string') return find_string(pattern, text)
  if (text.length > pattern.max_text) {
    throw new InputError(
      `A stretch of ${text.length} characters is too long for this tokenizer's regular expression; at most ${pattern.max_text} are taken. Split the text first.`,
    )
  }
  return find_regex(pattern.regex, text)
}

/** `text` with every match replaced. Nothing is collected on the way: a file can make many matches of a short text. */
export function replace_pattern(pattern: Pattern, text: string, content: string): string {
  let result = ''
  let before = 0
  for (const { start, end } of find(pattern, text)) {
    result += text.slice(before, start) + content
    check_length(result.length)
    before = end
  }
  return result + text.slice(before)
}

/** Throws an InputError for a text that has grown to more than this while it was normalised or decoded. */
export function check_length(length: number, limit = MAX_GROWN): void {
  if (length > limit) throw new InputError(`This tokenizer makes more than ${limit} characters of the text.`)
}

/** The stretches of `text` between and in the matches of a string. */
export function cover(text: string, matches: Iterable<{ start: number; end: number }>): Stretch[] {
  const stretches: Stretch[] = []
  let before = 0
  for (const { start, end } of matches) {
    if (before < start) stretches.push({ start: before, end: start, matched: false })
    stretches.push({ start, end, matched: true })
    before = end
  }
  if (before < text.length) stretches.push({ start: before, end: text.length, matched: false })
  return stretches
}

function* find_string(pattern: string, text: string): Generator<{ start: number; end: number }> {
  if (pattern === '') return
  for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + pattern.length)) {
    yield { start: at, end: at + pattern.length }
  }
}

/** Position by position, so that there is a moment to look at the clock. */
function* find_regex(regex: RegExp, text: string): Generator<{ start: number; end: number }> {
  if (text === '') return
  const deadline = Date.now() + MAX_MILLISECONDS
  let last_end = -1
  for (let at = 0, tries = 0; at <= text.length; ++tries) {
    if (tries % 64 === 63 && Date.now() > deadline) {
      throw new InputError(
        `This tokenizer's regular expression took more than ${MAX_MILLISECONDS} ms for a text of ${text.length} characters.`,
      )
    }
    regex.lastIndex = at
    const end = regex.test(text) ? regex.lastIndex : -1
    // An empty match right after a match is none.
    if (end > at || (end === at && end !== last_end)) {
      yield { start: at, end }
      last_end = end
    }
    at = end > at ? end : at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1)
  }
}
