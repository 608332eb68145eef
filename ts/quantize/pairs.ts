/** Text to measure a model on: what it reads and what it should write. */

import { InputError } from '../errors.js'
import type { PreTrainedTokenizer } from '../tokenizer/index.js'

export interface TextPair {
  input: string
  target: string
}

/** Tokens that a line of mere text is cut to, how many of them are asked for at once, and how many stand between. */
const LONGEST = 256
const SPAN = 3
const KEPT = 17

/**
 * The pairs of a text file, a line each: `input<TAB>target`. A line without a tab is text, in which three of every twenty
 * tokens are replaced by sentinels and asked for, as T5 was trained; where the tokenizer has no sentinels, the text is its
 * own target.
 */
export function parse_pairs(text: string, tokenizer: PreTrainedTokenizer): TextPair[] {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '')
  if (lines.length === 0)
    throw new InputError('The text to compare on is empty: give lines of text, or of input, tab, target.')
  const has_sentinels =
    tokenizer.convert_tokens_to_ids('<extra_id_0>') !== tokenizer.convert_tokens_to_ids('<extra_id_x>')
  return lines.map((line) => {
    const tab = line.indexOf('\t')
    if (tab >= 0) return { input: line.slice(0, tab), target: line.slice(tab + 1) }
    return has_sentinels ? with_spans(line, tokenizer) : { input: line, target: line }
  })
}

function with_spans(text: string, tokenizer: PreTrainedTokenizer): TextPair {
  const ids = tokenizer.encode(text, { add_special_tokens: false }).slice(0, LONGEST)
  let [input, target] = ['', '']
  const shown = (from: number, to: number) => tokenizer.decode(ids.slice(from, to), { skip_special_tokens: true })
  // Short texts lose their end.
  const kept = Math.min(KEPT, Math.max(1, ids.length - SPAN))
  let sentinel = 0
  for (let at = 0; at < ids.length; at += kept + SPAN) {
    const masked = Math.min(at + kept, ids.length)
    input += ` ${shown(at, masked)}`
    if (masked === ids.length) break
    input += ` <extra_id_${sentinel}>`
    target += ` <extra_id_${sentinel}> ${shown(masked, masked + SPAN)}`
    sentinel += 1
  }
  return { input: input.trim(), target: `${target} <extra_id_${sentinel}>`.trim() }
}
