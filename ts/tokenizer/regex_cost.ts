/**
 * How long a backtracking regular expression may take at one position, estimated from its source.
 *
 * JavaScript cannot interrupt a regular expression, and tokenizer files come from anywhere. What could take exponential
 * time has no estimate. For the rest it is `bound · n ** degree` steps for a text of n characters: every quantifier
 * without an upper limit may try n lengths, every other one as many as it allows, and choices add up.
 */

export interface RegexCost {
  bound: number
  degree: number
}

const MAX_DEPTH = 32

/**
 * The estimate, or `null` where there is none: a group that repeats or chooses inside and is repeated itself,
 * back-references, and what the reading below does not understand. It errs on that side.
 */
export function regex_cost(source: string): RegexCost | null {
  const reader = new Reader(source)
  const cost = reader.alternatives(0)
  return reader.failed || reader.at < source.length ? null : cost
}

class Reader {
  at = 0
  failed = false
  readonly #source: string

  constructor(source: string) {
    this.#source = source
  }

  /** Alternatives up to a closing parenthesis or the end. */
  alternatives(depth: number): RegexCost {
    let total: RegexCost = { bound: 0, degree: 0 }
    if (depth > MAX_DEPTH) this.failed = true
    while (!this.failed) {
      const one = this.#sequence(depth)
      total = { bound: total.bound + one.bound, degree: Math.max(total.degree, one.degree) }
      if (this.#source[this.at] !== '|') break
      ++this.at
    }
    return total
  }

  #sequence(depth: number): RegexCost {
    const total: RegexCost = { bound: 1, degree: 0 }
    while (!this.failed && this.at < this.#source.length && !'|)'.includes(this.#source[this.at]!)) {
      const atom = this.#atom(depth)
      const { least, most } = this.#quantifier()
      // Trying an atom once or not at all adds one way; trying it more often multiplies its ways without end.
      if (most > 1 && (atom.bound > 1 || atom.degree > 0)) this.failed = true
      if (most === Number.POSITIVE_INFINITY) total.degree += 1
      else total.bound *= most > 1 ? most - least + 1 : atom.bound + (1 - least)
      total.degree += atom.degree
    }
    return total
  }

  #atom(depth: number): RegexCost {
    const single = { bound: 1, degree: 0 }
    const char = this.#source[this.at++]!
    if (char === '\\') {
      if (/[1-9kg]/.test(this.#source[this.at] ?? '1')) this.failed = true
      // A property's name is in braces that are no quantifier.
      const braced = /^[pPxu]\{[^}]*\}/.exec(this.#source.slice(this.at))
      this.at += braced ? braced[0].length : 1
    } else if (char === '[') {
      this.#character_class()
    } else if (char === '(') {
      const prefix = /^\?(?:[:=!>]|<[=!]|<\w+>|[a-z]*(?:-[a-z]+)?:)/.exec(this.#source.slice(this.at))
      if (this.#source[this.at] === '?' && !prefix) this.failed = true
      this.at += prefix?.[0].length ?? 0
      const inside = this.alternatives(depth + 1)
      if (this.#source[this.at++] !== ')') this.failed = true
      return inside
    } else if ('*+?'.includes(char)) {
      this.failed = true
    }
    return single
  }

  #character_class(): void {
    if (this.#source[this.at] === '^') ++this.at
    if (this.#source[this.at] === ']') ++this.at
    for (let depth = 1; depth > 0; ++this.at) {
      const char = this.#source[this.at]
      if (char === undefined) {
        this.failed = true
        return
      }
      if (char === '\\') ++this.at
      else if (char === '[') ++depth
      else if (char === ']') --depth
    }
  }

  #quantifier(): { least: number; most: number } {
    const char = this.#source[this.at]
    const braces = /^\{(\d{1,4})?(,)?(\d{1,4})?\}/.exec(this.#source.slice(this.at))
    let bounds = { least: 1, most: 1 }
    if (char === '*' || char === '+' || char === '?') {
      bounds = { least: char === '+' ? 1 : 0, most: char === '?' ? 1 : Number.POSITIVE_INFINITY }
      ++this.at
      // Lazy or possessive.
      if ('?+'.includes(this.#source[this.at] ?? 'x')) ++this.at
    } else if (braces && (braces[1] ?? braces[3]) !== undefined) {
      const least = Number(braces[1] ?? 0)
      bounds = { least, most: braces[2] ? Number(braces[3] ?? Number.POSITIVE_INFINITY) : least }
      this.at += braces[0].length
      if (this.#source[this.at] === '?') ++this.at
    } else {
      return bounds
    }
    if (/^(?:[*+?]|\{\d*,?\d*\})/.test(this.#source.slice(this.at))) this.failed = true
    return bounds
  }
}
