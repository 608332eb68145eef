/**
 * Regular expressions of tokenizer files: from Oniguruma's syntax to JavaScript's, with an estimate of their cost.
 *
 * Only what means the same in both is translated. The rest, atomic groups and case-insensitive ones, nested classes,
 * back-references, word boundaries and the like, has no translation, so that no text is cut another way than in the
 * reference.
 *
 * JavaScript cannot interrupt a regular expression, and files come from anywhere. What could take exponential time has
 * no translation either. The rest takes at most `bound · n ** degree` steps at one position of a text of n characters:
 * a quantifier without an upper limit may try n lengths, another one as many as it allows, and choices add up.
 */

import { has_own } from '../utils/json.js'
export interface Translation {
  /** For a RegExp with the flag `u`. */
  source: string
  bound: number
  degree: number
}

const MAX_DEPTH = 32

/** The translation, or `null`: see above. What it gives may still be refused by RegExp, an unknown property, say. */
export function translate_regex(source: string): Translation | null {
  const reader = new Reader(source)
  const result = reader.alternatives(0)
  return reader.failed || reader.at < source.length ? null : result
}

/** Word characters outside classes; inside, Oniguruma leaves out the superscripts and fractions. */
const WORD_IN_CLASS = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}'
const WORD = `${WORD_IN_CLASS}\\u00b2\\u00b3\\u00b9\\u00bc-\\u00be`
const ESCAPES: Record<string, string> = {
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  n: '\\n',
  r: '\\r',
  t: '\\t',
  f: '\\f',
  v: '\\v',
  a: '\\x07',
  e: '\\x1b',
}

class Reader {
  at = 0
  failed = false
  readonly #source: string

  constructor(source: string) {
    this.#source = source
  }

  /** Alternatives up to a closing parenthesis or the end. */
  alternatives(depth: number): Translation {
    const sources: string[] = []
    let bound = 0
    let degree = 0
    if (depth > MAX_DEPTH) this.failed = true
    while (!this.failed) {
      const one = this.#sequence(depth)
      sources.push(one.source)
      bound += one.bound
      degree = Math.max(degree, one.degree)
      if (this.#source[this.at] !== '|') break
      ++this.at
    }
    return { source: sources.join('|'), bound, degree }
  }

  #sequence(depth: number): Translation {
    const total: Translation = { source: '', bound: 1, degree: 0 }
    while (!this.failed && this.at < this.#source.length && !'|)'.includes(this.#source[this.at]!)) {
      const atom = this.#atom(depth)
      const { least, most, source } = this.#quantifier()
      // Trying an atom once or not at all adds one way; trying it more often multiplies its ways without end.
      if (most > 1 && (atom.bound > 1 || atom.degree > 0)) this.failed = true
      if (most === Number.POSITIVE_INFINITY) total.degree += 1
      else total.bound *= most > 1 ? most - least + 1 : atom.bound + (1 - least)
      total.degree += atom.degree
      total.source += atom.source + source
    }
    return total
  }

  #atom(depth: number): Translation {
    const char = this.#next()
    if (char === '(') return this.#group(depth)
    return { source: this.#single(char), bound: 1, degree: 0 }
  }

  /** What matches one character, or an anchor. */
  #single(char: string): string {
    switch (char) {
      case '\\':
        return this.#escape(false)
      case '[':
        return this.#character_class()
      case '.':
        return '[^\\n]'
      // Both are about lines, in Oniguruma; no line begins at the end of a text.
      case '^':
        return '(?<=^|\\n(?=[^]))'
      case '$':
        return '(?![^\\n])'
      case '*':
      case '+':
      case '?':
        return this.#fail()
      case '{':
      case '}':
      case ']':
        return `\\${char}`
      default:
        return char
    }
  }

  #group(depth: number): Translation {
    const prefix = /^\?(?::|=|!|<=|<!|<\w+>)/.exec(this.#rest())?.[0] ?? ''
    if (this.#source[this.at] === '?' && prefix === '') this.#fail()
    this.at += prefix.length
    const inside = this.alternatives(depth + 1)
    if (this.#source[this.at++] !== ')') this.#fail()
    // Nothing refers to captures.
    const open = prefix === '' || prefix.endsWith('>') ? '?:' : prefix
    return { ...inside, source: `(${open}${inside.source})` }
  }

  #escape(in_class: boolean): string {
    const braced = /^(?:[pP]\{\w+\}|x\{[0-9A-Fa-f]{1,6}\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})/.exec(this.#rest())?.[0]
    if (braced) {
      this.at += braced.length
      return `\\${braced.startsWith('x{') ? `u${braced.slice(1)}` : braced}`
    }
    const char = this.#next()
    if (char === 'w') return in_class ? WORD_IN_CLASS : `[${WORD}]`
    if (char === 'W' && !in_class) return `[^${WORD}]`
    if (has_own(ESCAPES, char)) return ESCAPES[char]!
    if (/\w/.test(char)) return this.#fail()
    return '^$\\.*+?()[]{}|/'.includes(char) || (in_class && char === '-') ? `\\${char}` : char
  }

  #character_class(): string {
    let source = '['
    if (this.#source[this.at] === '^') source += this.#next()
    if (this.#source[this.at] === ']') source += `\\${this.#next()}`
    while (!this.failed) {
      const char = this.#next()
      if (char === ']') return `${source}]`
      if (char === '[' || (char === '&' && this.#source[this.at] === '&')) this.#fail()
      source += char === '\\' ? this.#escape(true) : char
    }
    return source
  }

  #quantifier(): { least: number; most: number; source: string } {
    const braces = /^\{(\d{1,4})?(,)?(\d{1,4})?\}/.exec(this.#rest())
    const char = this.#source[this.at] ?? ''
    let result = { least: 1, most: 1, source: '' }
    if (char !== '' && '*+?'.includes(char)) {
      result = { least: char === '+' ? 1 : 0, most: char === '?' ? 1 : Number.POSITIVE_INFINITY, source: this.#next() }
      if (this.#source[this.at] === '?') result.source += this.#next()
    } else if (braces && (braces[1] ?? braces[3]) !== undefined) {
      const least = Number(braces[1] ?? 0)
      const most = braces[2] ? Number(braces[3] ?? Number.POSITIVE_INFINITY) : least
      result = { least, most, source: `{${least}${braces[2] ?? ''}${braces[3] ?? ''}}` }
      this.at += braces[0].length
    } else {
      return result
    }
    // A quantifier of a quantifier, or a possessive one.
    if (/^(?:[*+?]|\{\d*,?\d*\})/.test(this.#rest())) this.#fail()
    return result
  }

  #next(): string {
    const code = this.#source.codePointAt(this.at)
    if (code === undefined) return this.#fail()
    const char = String.fromCodePoint(code)
    this.at += char.length
    return char
  }

  #rest(): string {
    return this.#source.slice(this.at)
  }

  #fail(): '' {
    this.failed = true
    return ''
  }
}
