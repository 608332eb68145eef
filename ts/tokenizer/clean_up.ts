/** `clean_up_tokenization_spaces`: the reference's replacements, which were made for word-piece vocabularies. */

const REPLACEMENTS = [' .', ' ?', ' !', ' ,', " ' ", " n't", " 'm", " 's", " 've", " 're"] as const

export function clean_up_tokenization(text: string): string {
  return REPLACEMENTS.reduce((result, from) => result.replaceAll(from, from.trim()), text)
}

/**
 * The same for a text that arrives in parts: the parts that it gives, joined, are the cleaned text.
 *
 * It holds back what later text could still change. Every replacement begins with a space, and only spaces vanish, so
 * one that reaches across a cut in front of a space can only be `" ' "` or come from `" n"` meeting `"'t"`: a cut after
 * any character but a space, an apostrophe or an n is safe.
 */
export class CleanUp {
  #held = ''

  push(text: string): string {
    this.#held += text
    let cut = this.#held.length
    do cut = cut <= 0 ? -1 : this.#held.lastIndexOf(' ', cut - 1)
    while (cut > 0 && " 'n".includes(this.#held[cut - 1]!))
    if (cut <= 0) return ''
    const ready = this.#held.slice(0, cut)
    this.#held = this.#held.slice(cut)
    return clean_up_tokenization(ready)
  }

  end(): string {
    const rest = this.#held
    this.#held = ''
    return clean_up_tokenization(rest)
  }
}
